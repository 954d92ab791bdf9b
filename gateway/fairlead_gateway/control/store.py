"""What the controller keeps over its own end: values by kind and key.

Who keeps something chooses a kind of its own, and says there what its keys and values are.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class StoreError(Exception):
    """The state cannot be read or written. One line: where, why, and what to do."""


class Entry(NamedTuple):
    """One value."""

    kind: str
    """What it is of: ``application``, ``traffic``."""
    key: str
    """Which one of these; unique in its kind."""
    value: bytes | None
    """None, in :meth:`Store.write`: remove it."""


class Store(Protocol):
    """Keeps entries. Used on one thread."""

    def read(self, kind: str) -> dict[str, bytes]:
        """All values of a kind by key. Raises StoreError."""
        ...

    def write(self, *entries: Entry) -> None:
        """Writes all of the entries or, raising StoreError, none."""
        ...

    def close(self) -> None:
        """Ends the use of it."""
        ...


class MemoryStore:
    """Keeps entries until the process ends: the store of an instance that ends with its driver."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], bytes] = {}

    def read(self, kind: str) -> dict[str, bytes]:
        """See :class:`Store`."""
        return {key: value for (its, key), value in self._values.items() if its == kind}

    def write(self, *entries: Entry) -> None:
        """See :class:`Store`."""
        for kind, key, value in entries:
            if value is None:
                self._values.pop((kind, key), None)
            else:
                self._values[kind, key] = value

    def close(self) -> None:
        """See :class:`Store`."""
