"""``fairlead build --proto``: the protobuf services that an application's type hints describe."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.build_config import build_config
from fairlead.cli.imports import load_application
from fairlead.serve.derived import building


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtoBuild:
    """What ``--proto`` is asked for."""

    import_path: str
    """The application: "package.module:name"."""
    app_dir: str = "."
    """Where to look for the module first."""
    arguments: dict[str, str] | None = None
    """For an application builder."""
    output: Path | None = None
    """The folder to write the files to; None: the text is printed."""
    imports: Path | None = None
    """The folder to write to what they import of Google's; None: nowhere."""
    lock: Path | None = None
    """The lock file; None: those beside the modules."""
    check: bool = False
    """Whether nothing is written, and what is out of date is an error."""
    allow_breaking: bool = False
    """Whether edits are accepted that callers would not survive."""


def build_proto(build: ProtoBuild) -> None:
    """Prints or writes the files and the lock file; or checks them.

    Raises HintError for a hint that cannot be mapped, BreakingChangeError, LockFileError, ImportPathError, and
    FairleadError for what cannot be written or is out of date.
    """
    found = building.derivations(load_application(build.import_path, build.app_dir, build.arguments), build.lock)
    if not build.allow_breaking:
        for each in found:
            each.check()
    files = building.lock_texts(found)
    texts = building.proto_files(found)
    if build.output is not None:
        files |= {build.output / name: text for name, text in texts.items()}
    if build.imports is not None:
        files |= {build.imports / name: text for name, text in building.google_files().items()}
    if build.check:
        building.check(files)
        return
    for path in building.write(files):
        typer.echo(f"wrote {path}", err=True)
    if build.output is None:
        own = [each.text for each in found]
        sys.stdout.write("\n".join(own))


def build(
    import_paths: Annotated[list[str], typer.Argument(help="Applications: package.module:name.")],
    proto: Annotated[
        bool, typer.Option("--proto", help="Build the .proto files that its type hints describe.")
    ] = False,
    app_dir: Annotated[str, typer.Option("--app-dir", "-d", help="Where to look for the module first.")] = ".",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file, or with --proto a folder, instead of stdout.")
    ] = None,
    imports: Annotated[Path | None, typer.Option(help="A folder for what they import of Google's.")] = None,
    lock: Annotated[
        Path | None, typer.Option(help="The lock file, if not fairlead.lock.json beside the module.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a file is not up to date.")] = False,
    allow_breaking: Annotated[
        bool, typer.Option("--allow-breaking", help="Accept edits that callers would not survive.")
    ] = False,
) -> None:
    """Print a configuration file to begin with, or what an application is made of.

    --proto prints the protobuf service of its ingress deployment, and of those with @serve.typed, and writes the lock
    file that keeps the numbers of its fields.
    """
    if not proto:
        if imports is not None or lock is not None or check or allow_breaking:
            raise typer.BadParameter("--imports, --lock, --check and --allow-breaking go with --proto")
        build_config(import_paths, app_dir, output)
        return
    if len(import_paths) > 1:
        raise typer.BadParameter("--proto is for one application at a time")
    build_proto(
        ProtoBuild(
            import_path=import_paths[0],
            app_dir=app_dir,
            output=output,
            imports=imports,
            lock=lock,
            check=check,
            allow_breaking=allow_breaking,
        )
    )
