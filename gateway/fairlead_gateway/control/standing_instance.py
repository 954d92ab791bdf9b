"""What a controller finds before it starts to control a standing instance: state, options, ports, processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairlead.lifetime import PROCESSES
from fairlead_gateway.control.detached_launcher import DetachedLauncher
from fairlead_gateway.control.gateways import Door, OtherOptionsError
from fairlead_gateway.control.log_files import DIRECTORY, LogFiles
from fairlead_gateway.control.ports import Ports
from fairlead_gateway.control.sqlite_store import FILE, SqliteStore
from fairlead_gateway.control.state_lock import StateLock
from fairlead_gateway.control.store import Entry

CONFIGURATION = "configuration"
"""The kind of what the instance was started with; its one key is that of the options."""

_KEY = "instance"
_GATEWAY_PREFIX = "gateway-"


class StandingInstance:
    """The state of one standing instance, which this process alone uses from now on."""

    def __init__(self, directory: Path) -> None:
        """Raises StateLockedError, StoreError, OSError."""
        self.directory = directory
        self._lock = StateLock(directory)
        self.logs = LogFiles(directory / DIRECTORY)
        self.store = SqliteStore(directory / FILE)
        address = f"unix:{directory / 'controller.sock'}"
        self.launcher = DetachedLauncher(self.logs, directory / PROCESSES, address)
        self.found = self.launcher.found()
        self.ports = Ports()

    @property
    def has_gateways(self) -> bool:
        """Whether gateway workers of an earlier controller run."""
        return any(name.startswith(_GATEWAY_PREFIX) for name in self.found)

    def options(self, given: Sequence[str], secrets: Mapping[str, str], *, as_before: bool) -> list[str]:
        """The options to run with: those given or, with ``as_before``, those of the last start if there was one.

        Raises OtherOptionsError if workers that run have others, or other secrets.
        """
        before = self._read()
        options = list(before["options"]) if as_before and before else list(given)
        if self.has_gateways and before:
            if options != before["options"]:
                raise OtherOptionsError(
                    f"gateway workers of this instance run with other options ({' '.join(before['options'])}); start "
                    f"it without options to go on with these, or end it by `fairlead shutdown` first"
                )
            if _digest(secrets) != before["secrets"]:
                raise OtherOptionsError(
                    "gateway workers of this instance run with another token or key password; start it with the same, "
                    "or end it by `fairlead shutdown` first"
                )
        return options

    def door(self, name: str, door: Door | None) -> Door | None:
        """A door with the port that workers which run have it at, if it may be any."""
        before = self._read().get("ports", {}).get(name) if self.has_gateways else None
        return Door(host=door.host, port=before) if door is not None and not door.port and before else door

    def remember(
        self, options: Sequence[str], secrets: Mapping[str, str], http: Door | None, grpc: Door | None
    ) -> None:
        """Writes down what the instance runs with. Raises StoreError."""
        ports = {name: door.port for name, door in (("http", http), ("grpc", grpc)) if door is not None}
        value = {"options": list(options), "secrets": _digest(secrets), "ports": ports}
        self.store.write(Entry(CONFIGURATION, _KEY, json.dumps(value).encode()))

    def forget(self) -> None:
        """The instance was ended for good: the next one starts anew. Raises StoreError."""
        self.store.write(Entry(CONFIGURATION, _KEY, None))

    def _read(self) -> dict[str, Any]:
        found = self.store.read(CONFIGURATION).get(_KEY)
        return {} if found is None else dict(json.loads(found))


def _digest(secrets: Mapping[str, str]) -> str:
    text = json.dumps(sorted(secrets.items()))
    return hashlib.sha256(text.encode()).hexdigest()
