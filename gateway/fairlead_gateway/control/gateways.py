"""Keeping gateway workers running: what to start, when, and with which doors. Pure: the clock is an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.v1 import control_pb2
from fairlead_gateway.control.actions import Action, KillGateway, StartGateway
from fairlead_gateway.control.backoff import CALM_S, Backoff
from fairlead_gateway.control.observed import GatewayView
from fairlead_gateway.control.silence import LOOK_S, SILENT_S, Listener, heard

BIND_FAILED = 3
"""The exit status of a gateway worker that could not open its doors; :meth:`GatewaySupervisor.failure` says why."""
DRAIN_S = 10.0
"""A gateway worker that was told to drain is killed after that."""


class OtherOptionsError(Exception):
    """Workers run with other options than those that were given. One line, which says what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """Where gateway workers listen for one protocol."""

    host: str
    port: int
    """0: any; the one that was given stays for the life of the instance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Doors:
    """Where gateway workers listen, beside their Unix sockets."""

    http: Door | None
    """None: not at all."""
    grpc: Door | None
    """None: not at all."""
    shared: bool = False
    """Whether other processes may have the ports open too: other workers, and the controller that holds them."""
    options: tuple[str, ...] = ()
    """More of the workers' command line, as it is: what their doors do beside listening."""


@dataclass(kw_only=True)
class _Worker:
    gateway_id: str
    http: Door | None
    grpc: Door | None
    backoff: Backoff = field(default_factory=Backoff)
    alive: bool = False
    killed: bool = False
    pid: int = 0
    started_at: float = 0.0
    served: bool = False
    connected: bool = False
    view: GatewayView | None = None
    heard_at: float | None = None
    used_s: float | None = None
    silent: bool = False

    @property
    def reports(self) -> bool:
        """Whether its watch is open."""
        return self.view is not None and not self.killed

    @property
    def patience_s(self) -> float:
        """As long as it takes to find out: connections to it hang, while those to others go on."""
        return SILENT_S


class GatewaySupervisor:
    """The gateway workers of one instance. Not thread-safe; times are seconds of one monotonic clock."""

    def __init__(
        self,
        *,
        directory: Path,
        doors: Doors,
        count: int = 1,
        processor_time: Callable[[int], float | None] = lambda pid: None,
    ) -> None:
        """``processor_time``: seconds that the process with an id has used; None: not to be found out."""
        self.due: float | None = None
        """When to reconcile next if nothing happens before; None: no need."""
        self.look_due: float | None = None
        """When to look at the workers next; None: no need."""
        self._listener = Listener(processor_time)
        self._directory = directory
        self._options = ("--reuse-port", *doors.options) if doors.shared else doors.options
        self._drain_deadline: float | None = None
        self._workers = {
            name: _Worker(gateway_id=name, http=doors.http, grpc=doors.grpc)
            for name in (f"gateway-{index}" for index in range(count))
        }

    @property
    def session_addresses(self) -> list[str]:
        """Where the workers take sessions of trusted callers, running or not."""
        return [self._session_address(name) for name in self._workers]

    @property
    def ended(self) -> bool:
        """Whether no worker runs."""
        return not any(worker.alive for worker in self._workers.values())

    def arguments(self, gateway_id: str) -> list[str]:
        """The command line of a worker: the doors that it had before, if it had any."""
        worker = self._workers[gateway_id]
        arguments = ["--gateway-id", gateway_id, "--socket", str(self._socket(gateway_id))]
        if worker.http is not None:
            arguments += ["--http-host", worker.http.host, "--http-port", str(worker.http.port)]
        if worker.grpc is not None:
            arguments += ["--grpc-host", worker.grpc.host, "--grpc-port", str(worker.grpc.port)]
        return [*arguments, *self._options]

    def started(self, gateway_id: str, pid: int, now: float) -> None:
        """The process runs."""
        worker = self._workers[gateway_id]
        worker.alive, worker.pid, worker.started_at, worker.connected = True, pid, now, False
        worker.heard_at, worker.silent = None, False

    def said(self, view: GatewayView) -> None:
        """A worker has connected, or applied a snapshot. One that is not of this instance is ignored."""
        worker = self._workers.get(view.gateway_id)
        if worker is not None:
            worker.view = view
            worker.connected = True
            worker.served |= view.applied_version > 0  # its doors open with the first snapshot
            worker.http = _bound(worker.http, view.http_address)
            worker.grpc = _bound(worker.grpc, view.grpc_address)

    def heard(self, gateway_id: str, now: float) -> None:
        """A worker has said anything at all."""
        if worker := self._workers.get(gateway_id):
            heard(worker, now)

    def look(self, now: float) -> bool:
        """Looks for frozen workers between decisions; whether there is one. Costs little."""
        self.look_due = now + LOOK_S if any(worker.reports for worker in self._workers.values()) else None
        return bool(self._listener.look(self._workers.values(), now))

    def lost(self, gateway_id: str) -> None:
        """A worker's watch has ended."""
        if worker := self._workers.get(gateway_id):
            worker.view = None

    def knows(self, gateway_id: str) -> bool:
        """Whether a worker has that name."""
        return gateway_id in self._workers

    def adopted(self, gateway_id: str, pid: int, now: float) -> None:
        """The process of an earlier controller's runs, and has its doors open."""
        self.started(gateway_id, pid, now)
        self._workers[gateway_id].served = self._workers[gateway_id].connected = True

    def failure(self, gateway_id: str) -> Path:
        """The file in which a worker that could not open its doors says why."""
        return self._socket(gateway_id).with_suffix(".failed")

    def process_ended(self, gateway_id: str, status: int | None, now: float) -> bool:
        """A worker's process has ended; whether that is for good: it never could open its doors."""
        worker = self._workers[gateway_id]
        worker.alive, worker.killed, worker.pid, worker.view, worker.silent = False, False, 0, None, False
        if now - worker.started_at >= CALM_S:
            worker.backoff.recovered()
        worker.backoff.failed(now)
        return status == BIND_FAILED and not worker.served

    def drain(self, now: float) -> None:
        """Workers are to end: no more are started, and those that take too long are killed."""
        self._drain_deadline = now + DRAIN_S

    def reconcile(self, now: float) -> list[Action]:
        """Decides what to do now. A start that is decided counts as carried out when :meth:`started` is called."""
        self.due = None
        self.look(now)
        actions: list[Action] = []
        for worker in self._workers.values():
            if self._drain_deadline is not None:
                if not worker.alive or worker.killed:
                    continue
                # One that never connected cannot be told to drain, and has no calls.
                if not worker.connected or self._is_due(self._drain_deadline, now):
                    worker.killed = True
                    actions.append(KillGateway(gateway_id=worker.gateway_id, reason="did not drain in time"))
            elif worker.silent and not worker.killed:
                worker.killed = True
                actions.append(KillGateway(gateway_id=worker.gateway_id, reason="it gives no sign of life"))
            elif not worker.alive and self._is_due(worker.backoff.not_before, now):
                actions.append(StartGateway(gateway_id=worker.gateway_id))
        return actions

    def statuses(self) -> list[control_pb2.GatewayStatus]:
        """The workers, for users."""
        return [self._status(worker) for worker in self._workers.values()]

    def _status(self, worker: _Worker) -> control_pb2.GatewayStatus:
        view = worker.view
        status = control_pb2.GatewayStatus(gateway_id=worker.gateway_id, pid=worker.pid)
        status.trusted_address = f"unix:{self._socket(worker.gateway_id)}"
        status.session_address = self._session_address(worker.gateway_id)
        if view is not None:
            status.ready = view.applied_version > 0
            status.grpc_address = view.grpc_address
            status.http_address = view.http_address
            status.grpc_tls = view.grpc_tls
            status.http_tls = view.http_tls
        return status

    def _socket(self, gateway_id: str) -> Path:
        return self._directory / f"{gateway_id}.sock"

    def _session_address(self, gateway_id: str) -> str:
        return f"wire:{self._directory / gateway_id}.wire"

    def _is_due(self, time: float, now: float) -> bool:
        if now >= time:
            return True
        self.due = time if self.due is None else min(self.due, time)
        return False


def _bound(door: Door | None, address: str) -> Door | None:
    if door is None or door.port or not address:
        return door
    return Door(host=door.host, port=int(address.rpartition(":")[2]))
