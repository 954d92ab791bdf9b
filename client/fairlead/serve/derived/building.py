"""The contracts of an application, as ``fairlead build --proto`` writes and checks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from fairlead.serve.deployment import Application
from fairlead.serve.derived import lockfile
from fairlead.serve.derived.decorator import options_of
from fairlead.serve.derived.derivation import Derivation, derive
from fairlead.serve.derived.lock import LockedService
from fairlead.serve.interface import interface_of
from fairlead.serve.local_graph import LocalGraph
from fairlead.wire.errors import FairleadError

_TENSOR = "fairlead/v1/tensor.proto"
_OF_GOOGLE = ("google/api/annotations.proto", "google/api/http.proto")


class NothingToDeriveError(FairleadError):
    """An application has no deployment that a service could be derived from. The message says what to do."""


class StaleError(FairleadError):
    """Files are not what the code derives to. The message names them."""


def derivations(application: Application[Any], lock_path: Path | None = None) -> list[Derivation]:
    """What an application's deployments derive to: the ingress deployment's first, then those with ``@serve.typed``.

    ``lock_path``: instead of the lock files beside their modules. Raises NothingToDeriveError, HintError for a hint
    that cannot be mapped, LockFileError, and ValueError for a package that cannot be.
    """
    graph = LocalGraph("")
    graph.add(application)
    *others, ingress = (each.code for each in graph.deployments)
    chosen = [ingress] if _is_wanted(ingress) else []
    chosen += [code for code in others if (options := options_of(code)) is not None and options.enabled]
    found = [each for code in chosen if (each := derive(code, lock_path)) is not None]
    if not found:
        raise NothingToDeriveError(
            f"there is no service to derive from {application.deployment.name!r}: its methods need type hints, and a "
            "class that answers HTTP requests or implements a service of a .proto file needs @serve.typed"
        )
    return list({each.service.full_name: each for each in found}.values())


def _is_wanted(ingress: Any) -> bool:
    """Whether the ingress deployment's class has a derived service, declared or not: see ``describe_ingress``."""
    options = options_of(ingress)
    if options is not None:
        return options.enabled
    interface = interface_of(ingress)
    return interface is None or not (interface.asgi or interface.typed_services)


def proto_files(found: list[Derivation]) -> dict[str, str]:
    """The .proto files by their paths: the derived ones, and what they import of Fairlead's."""
    texts = {each.service.file: each.text for each in found}
    if any(_TENSOR in each.service.imports() for each in found):
        texts[_TENSOR] = resources.files("fairlead.v1").joinpath("tensor.proto").read_text(encoding="utf-8")
    return texts


def google_files() -> dict[str, str]:
    """What derived files import of Google's and protoc does not bring along, by path."""
    return {
        name: resources.files("google.api").joinpath(name.rpartition("/")[2]).read_text(encoding="utf-8")
        for name in _OF_GOOGLE
    }


def lock_texts(found: list[Derivation]) -> dict[Path, str]:
    """The lock files as they should be. Services in them that were not derived here stay as they are.

    Raises LockFileError, and FairleadError for a class that has no folder to put one in.
    """
    locked: dict[Path, dict[str, LockedService]] = {}
    for each in found:
        if each.lock_path is None:
            raise FairleadError(f"{each.service.source} is in no file that a lock file could stand beside; use --lock")
        services = locked.setdefault(each.lock_path, lockfile.load(each.lock_path))
        services[each.service.full_name] = each.lock
        for name in each.gone:
            services.pop(name, None)
    return {path: lockfile.dump(services) for path, services in locked.items()}


def write(files: Mapping[Path, str]) -> list[Path]:
    """Writes the files that are not as they should be, their folders with them; which these were.

    Raises FairleadError that names the first that cannot be written.
    """
    stale = list(_stale(files))
    for path in stale:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
        except OSError as error:
            raise FairleadError(f"{path} cannot be written: {error.strerror or error}") from error
    return stale


def check(files: Mapping[Path, str]) -> None:
    """Raises StaleError if a file is missing, or not as it should be."""
    stale = list(_stale(files))
    if stale:
        raise StaleError(
            f"{', '.join(map(str, stale))}: not what the code says; run `fairlead build --proto` and commit the result"
        )


def _stale(files: Mapping[Path, str]) -> Iterator[Path]:
    for path, text in files.items():
        try:
            if path.read_text(encoding="utf-8") != text:
                yield path
        except (OSError, ValueError):
            yield path
