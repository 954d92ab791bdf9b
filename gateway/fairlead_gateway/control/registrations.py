"""Replicas that call their controller: who is taken, what they are told, and what they tell. Their leases."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from fairlead.v1 import replica_pb2
from fairlead.wire.errors import FairleadError
from fairlead_gateway.control.core import Core
from fairlead_gateway.control.gateways import GatewaySupervisor
from fairlead_gateway.control.leases import Leases
from fairlead_gateway.control.processes import Processes
from fairlead_gateway.control.settings import ControllerSettings

logger = logging.getLogger("fairlead.controller")


class Registrations:
    """The controller's side of leases. Used on one event loop."""

    def __init__(
        self,
        settings: ControllerSettings,
        core: Core,
        gateways: GatewaySupervisor,
        leases: Leases,
        processes: Processes,
        act: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        """``act`` decides at once, ``wake`` on the next turn of the controller's loop."""
        self.leases = leases
        self._settings = settings
        self._core = core
        self._gateways = gateways
        self._processes = processes
        self._act = act
        self._wake = wake

    def take(self, hello: replica_pb2.ReplicaHello) -> replica_pb2.ReplicaAssignment | None:
        """A replica has called; what it shall run, None if it runs already and only has to hear what changes.

        Raises FairleadError for one that is not wanted; it is ended.
        """
        replica_id = hello.replica_id
        adopted = replica_id not in self._core.observed.replicas and self._core.events.adopt(hello, time.monotonic())
        if adopted:
            self._processes.adopt(replica_id, hello.pid)
        self._processes.recovery.heard(replica_id)
        assignment = self._assignment(hello)
        self._core.events.started(replica_id, hello.pid)
        self._core.events.lease_taken(replica_id)
        self._wake()
        return assignment

    def _assignment(self, hello: replica_pb2.ReplicaHello) -> replica_pb2.ReplicaAssignment | None:
        try:
            assignment = self._core.events.assignment(
                hello.replica_id, str(self._settings.socket_path(hello.replica_id))
            )
        except FairleadError:
            if hello.HasField("running") and hello.replica_id in self._core.observed.replicas:
                return None
            self._processes.end_stranger(hello.replica_id, hello.pid)
            raise
        if hello.HasField("running"):
            self._core.observed.replicas[hello.replica_id].settings = hello.running.settings
        assignment.gateway_addresses.extend(self._gateways.session_addresses)
        return assignment

    def event(self, replica_id: str, request: replica_pb2.RegisterRequest) -> None:
        """A replica has said something on its lease."""
        now = time.monotonic()
        returned = self._core.events.heard(replica_id, now)
        match request.WhichOneof("event"):
            case "report":
                if not self._core.events.reported(replica_id, request.report) and not returned:
                    return
            case "ready":
                self._core.events.ready(replica_id, request.ready.address, now)
            case "failed":
                self._failed(replica_id, request.failed, now)
            case "drained":
                self._core.events.drained(replica_id, now)
            case "reconfigured":
                if request.reconfigured.traceback:
                    logger.error("(%s) could not be reconfigured", replica_id)
                self._core.events.reconfigured(replica_id, request.reconfigured.traceback)
        # At once rather than on the next turn of the loop: this is on the way of a cold start.
        self._act()

    def _failed(self, replica_id: str, failed: replica_pb2.ReplicaFailed, now: float) -> None:
        description = failed.traceback or failed.message
        self._core.events.failed(replica_id, description, now)
        replica = self._core.observed.replicas.get(replica_id)
        progress = None if replica is None else self._core.observed.progress_of(replica)
        if progress is None or progress.is_news(description):
            logger.error("%s could not start\n%s", replica_id, description.rstrip())
        else:
            times = f"{progress.failures} times in a row"
            logger.error("%s could not start, as before, %s: %s", replica_id, times, failed.message)

    def lost(self, replica_id: str) -> None:
        """A replica's lease stream has ended."""
        self._core.events.lease_lost(replica_id, time.monotonic())
        self._wake()
