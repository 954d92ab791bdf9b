"""A class to its contract: hints, lock file and package put together."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

from fairlead.serve.derived import lockfile
from fairlead.serve.derived.decorator import TypedOptions, options_of
from fairlead.serve.derived.descriptor import file_of, set_of
from fairlead.serve.derived.errors import BreakingChangeError
from fairlead.serve.derived.lock import Breaking, LockedService, advance
from fairlead.serve.derived.methods import service_of
from fairlead.serve.derived.shapes import Service
from fairlead.serve.derived.text import text_of


@dataclass(frozen=True, slots=True)
class Derivation:
    """A service with its numbers."""

    service: Service
    lock: LockedService
    """The numbers: those of the lock file, and new ones for what it does not know yet."""
    locked: LockedService | None
    """What the lock file has; None: nothing."""
    lock_path: Path | None
    """The lock file, there or not; None: there cannot be one."""
    breaking: tuple[Breaking, ...]
    """What callers with the old contract would not survive."""
    gone: tuple[str, ...] = ()
    """Services of the lock file that are not there any more."""

    @property
    def file(self) -> descriptor_pb2.FileDescriptorProto:
        """The file that defines it."""
        return file_of(self.service, self.lock)

    @property
    def descriptor_set(self) -> descriptor_pb2.FileDescriptorSet:
        """The file with all that it imports."""
        return set_of([self.file])

    @property
    def text(self) -> str:
        """The .proto file."""
        return text_of(self.service, self.lock)

    def check(self) -> None:
        """Raises BreakingChangeError if it breaks what the lock file has."""
        if self.breaking:
            listed = "\n".join(f"  {each}" for each in self.breaking)
            raise BreakingChangeError(
                f"callers of {self.service.full_name} would break:\n{listed}\n"
                f"If nobody calls it yet, `fairlead build --proto --allow-breaking` writes {self.lock_path} anew"
            )


def derive(func_or_class: Any, lock_path: Path | None = None) -> Derivation | None:
    """What a class or function derives to; None if it has no methods for callers with messages.

    ``lock_path``: instead of the lock file that belongs to it. Raises HintError for a hint that cannot be mapped,
    LockFileError, and ValueError for a package that cannot be.
    """
    if not isinstance(func_or_class, type) and not inspect.isroutine(func_or_class):
        return None
    options = options_of(func_or_class) or TypedOptions()
    service = service_of(func_or_class, options.package, options.service)
    if service is None:
        return None
    path = lock_path or lockfile.path_of(func_or_class, options.lock)
    services = lockfile.load(path) if path is not None else {}
    locked = services.get(service.full_name)
    lock, breaking = advance(locked, service)
    gone = _gone(services, service, sys.modules.get(func_or_class.__module__))
    breaking += [_replaced(name, services[name], service) for name in gone]
    return Derivation(service, lock, locked, path, tuple(breaking), gone)


def _gone(services: Mapping[str, LockedService], service: Service, module: Any) -> tuple[str, ...]:
    """The services of the lock file whose class is not in the module any more, or has another service now.

    A program that runs as ``__main__``, and a module that is being imported, may define them later on: then none is.
    """
    if module is None or module.__name__ == "__main__" or getattr(module.__spec__, "_initializing", False):
        return ()
    found = []
    for name, each in services.items():
        file, _, source = each.source.partition(":")
        if file == service.module_file and name != service.full_name:
            attribute: Any = module
            for part in source.split("."):
                attribute = getattr(attribute, part, None)
            if source == service.source or (attribute is None and "<locals>" not in source):
                found.append(name)
    return tuple(found)


def _replaced(name: str, lost: LockedService, service: Service) -> Breaking:
    """What breaks where a service is gone."""
    package, _, own = name.rpartition(".")
    reason = f"it is gone: {lost.source.partition(':')[2]} is not there any more, or has another service"
    fix = f"If {service.source} took its place, say @serve.typed(package={package!r}, service={own!r})"
    return Breaking(f"service {name}", reason, fix)
