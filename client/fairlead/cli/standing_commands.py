"""``fairlead shutdown``, ``logs``: the standing instance as a whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.finding import Address, choose
from fairlead.cli.output import said_if_long, say
from fairlead.serve import api, environment, standing
from fairlead.serve.validation import suggestion
from fairlead.wire.errors import FairleadError


def shutdown(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False, address: Address = None
) -> None:
    """Drain and delete all applications, and end the instance.

    Also what a controller that was killed has left.
    """
    if address is None and environment.address() is None and standing.orphans():
        with said_if_long("waiting for what the controller has left to drain"):
            standing.end_orphans_for_good()
        say("the controller was gone; what it had left has ended")
        return
    choose(address)
    if not yes and not typer.confirm("End the instance, and delete all that is deployed?"):
        raise typer.Exit(1)
    with said_if_long("the instance drains: waiting for the calls that still run"):
        api.shutdown()
    say("the instance has ended")


def logs(
    name: Annotated[
        str | None, typer.Argument(help="controller, gateway-0, or a replica's id; part of it will do.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many lines.", min=0)] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
) -> None:
    """Print what the standing instance's processes have written; without a name, list their files."""
    directory = standing.directory() / standing.LOGS
    files = {one.stem: one for one in sorted(directory.glob("*.log"), key=lambda one: one.stat().st_mtime)}
    if name is None:
        for each, file in files.items():
            typer.echo(f"{file.stat().st_size:>10}  {each}  {file}")
        return
    stem = name if name in files else next((one for one in reversed(files) if name in one), None)
    if stem is None:
        raise FairleadError(f"there is no log of '{name}' in {directory}; {suggestion(name, files)}")
    path = files[stem]
    text = path.read_text(errors="backslashreplace").splitlines()
    for line in text[max(0, len(text) - lines) :]:
        typer.echo(line)
    if follow:
        for piece in _further(path):
            typer.echo(piece, nl=False)


def _further(path: Path) -> Iterator[str]:
    """What is written from now on; begins anew when the file was put aside."""
    with open(path, errors="backslashreplace") as file:
        file.seek(0, 2)
        while True:
            if piece := file.read():
                yield piece
                continue
            if path.stat().st_size < file.tell():
                file.seek(0)
            time.sleep(0.2)
