"""The lock file: what was given out for the services of one folder, as JSON that is committed with the code."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from fairlead.serve.derived.errors import LockFileError
from fairlead.serve.derived.lock import LockedEnum, LockedField, LockedMessage, LockedMethod, LockedService

NAME = "fairlead.lock.json"
_VERSION = 1


def path_of(target: Any, given: str | None = None) -> Path | None:
    """Where the lock file of a class or function is: beside its module, or where ``given`` says from there.

    None for what has no file, such as a class typed into a shell.
    """
    file = getattr(sys.modules.get(target.__module__), "__file__", None)
    if file is None:
        return Path(given) if given is not None and os.path.isabs(given) else None
    return Path(file).resolve().parent / (given or NAME)


def load(path: Path) -> dict[str, LockedService]:
    """What is locked, by the services' full names; empty if there is no file. Raises LockFileError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LockFileError(f"the lock file {path} cannot be read: {error}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> dict[str, LockedService]:
    """What the text of the lock file at ``path`` says. Raises LockFileError."""
    try:
        data = json.loads(text)
        if data["version"] != _VERSION:
            raise LockFileError(f"the lock file {path} is of version {data['version']}; this Fairlead knows {_VERSION}")
        return {name: _service(each) for name, each in data["services"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, LockFileError):
            raise
        raise LockFileError(
            f"{path} is no lock file, or was damaged, by a merge perhaps ({type(error).__name__}: {error}); "
            "restore it from version control"
        ) from error


def dump(services: dict[str, LockedService]) -> str:
    """The text of a lock file. The same services give the same text."""
    data = {"version": _VERSION, "services": {name: _plain(each) for name, each in sorted(services.items())}}
    return json.dumps(data, indent=2) + "\n"


def _service(data: dict[str, Any]) -> LockedService:
    service = LockedService(
        source=str(data["class"]),
        methods={name: LockedMethod(**each) for name, each in data["methods"].items()},
        messages={name: _message(each) for name, each in data["messages"].items()},
        enums={name: LockedEnum(each["values"], each["removed"]) for name, each in data["enums"].items()},
    )
    for name, message in service.messages.items():
        numbers = [each.number for each in (*message.fields.values(), *message.removed.values())] + message.reserved
        _check(name, numbers)
    for name, enum in service.enums.items():
        _check(name, [*enum.values.values(), *enum.removed.values()])
    return service


def _check(name: str, numbers: list[Any]) -> None:
    if len(set(numbers)) != len(numbers) or not all(type(each) is int and 0 < each < 1 << 29 for each in numbers):
        raise ValueError(f"{name} has a number twice, or one that cannot be")


def _message(data: dict[str, Any]) -> LockedMessage:
    return LockedMessage(
        fields={name: LockedField(**each) for name, each in data["fields"].items()},
        removed={name: LockedField(**each) for name, each in data["removed"].items()},
        reserved=list(data["reserved"]),
    )


def _plain(service: LockedService) -> dict[str, Any]:
    return {
        "class": service.source,
        "methods": {name: each._asdict() for name, each in service.methods.items()},
        "messages": {
            name: {
                "fields": {key: each._asdict() for key, each in message.fields.items()},
                "removed": {key: each._asdict() for key, each in message.removed.items()},
                "reserved": message.reserved,
            }
            for name, message in service.messages.items()
        },
        "enums": {name: {"values": each.values, "removed": each.removed} for name, each in service.enums.items()},
    }
