"""Which application a HTTP path belongs to: the longest route prefix, by whole segments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Mount(NamedTuple):
    """An application under a route prefix."""

    prefix: str
    """As it was deployed: "/" or "/a/b"."""
    root_path: str
    """The same as ASGI's ``root_path``: empty for "/"."""
    application: str


class Mounts:
    """The mounts of a gateway. Immutable: a change of the route table makes a new one."""

    def __init__(self, prefixes: Iterable[tuple[str, str]] = ()) -> None:
        """``prefixes``: pairs of route prefix and application."""
        mounts = [Mount(prefix, prefix.rstrip("/"), application) for prefix, application in prefixes]
        self._by_root = {mount.root_path: mount for mount in mounts}
        self._root = self._by_root.get("")
        # No prefix is deeper, so no path has to be cut at more places, however many slashes it has.
        self._depth = max((mount.root_path.count("/") for mount in mounts), default=0)

    def match(self, path: str) -> Mount | None:
        """The mount for a path: "/a" takes "/a" and "/a/b", not "/ab"."""
        if self._depth:
            segments = path.split("/", self._depth + 1)[: self._depth + 1]
            for count in range(len(segments), 1, -1):
                mount = self._by_root.get("/".join(segments[:count]))
                if mount is not None:
                    return mount
        return self._root

    def all(self) -> list[Mount]:
        """The mounts, in the order of their prefixes."""
        return sorted(self._by_root.values())

    def as_routes(self) -> dict[str, str]:
        """Route prefix to application, as ``/-/routes`` shows it."""
        return {mount.prefix: mount.application for mount in self._by_root.values()}
