"""The processes of one instance: they are started and killed here, and here is heard when they have ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from fairlead_gateway.control.actions import StartReplica
from fairlead_gateway.control.adoption import Recovery
from fairlead_gateway.control.core import LEASE_GRACE_S, Core
from fairlead_gateway.control.gateways import GatewaySupervisor
from fairlead_gateway.control.launcher import Ending, Launcher, Process
from fairlead_gateway.control.leases import Lease, Leases
from fairlead_gateway.control.settings import ControllerSettings, bind_failure

logger = logging.getLogger("fairlead.controller")

_LAST_WORDS_S = 1.0
"""The lease of a process that has ended has that long to end, too."""


class Processes:
    """Those of replicas and gateway workers, by name. Used on one event loop."""

    def __init__(
        self,
        settings: ControllerSettings,
        launcher: Launcher,
        core: Core,
        gateways: GatewaySupervisor,
        leases: Leases,
        act: Callable[[], None],
    ) -> None:
        """``act``: is called when core or supervisor have heard of an end."""
        self.recovery = Recovery()
        """What an earlier controller has left and was not heard of yet."""
        self.fatal: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Settled with one line when the instance cannot run, because a gateway worker cannot open its doors."""
        self.stopping = False
        """Whether processes are expected to end."""
        self._settings = settings
        self._launcher = launcher
        self._core = core
        self._gateways = gateways
        self._leases = leases
        self._act = act
        self._running: dict[str, Process] = {}
        self._hearings: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Processes {list(self._running)}>"

    def recover(self, found: Mapping[str, int]) -> None:
        """Takes over processes of an earlier controller: ids by name. Before anything else."""
        now = time.monotonic()
        self.recovery = Recovery(found, now + LEASE_GRACE_S)
        for name, pid in found.items():
            is_gateway = self._gateways.knows(name)
            process = self._launcher.adopt(
                name, pid, self._gateway_ended_of(name) if is_gateway else self._end_of(name)
            )
            if process is None:
                self.recovery.heard(name)
                continue
            self._running[name] = process
            if is_gateway:
                self._gateways.adopted(name, pid, now)
        if found:
            logger.warning("taking over %d processes of an earlier controller", len(self._running))

    def adopt(self, replica_id: str, pid: int) -> None:
        """Takes over the process of a replica that has called and that this controller has not started."""
        if replica_id in self._running:
            return
        process = self._launcher.adopt(replica_id, pid, self._end_of(replica_id))
        if process is not None:
            self._running[replica_id] = process

    def end_stranger(self, name: str, pid: int) -> None:
        """Kills the process of a replica that nobody wants, whoever has started it."""
        if process := self._launcher.adopt(name, pid, lambda _: None):
            process.kill()

    def kill(self, name: str) -> None:
        """Kills a process. Harmless if it has ended."""
        if process := self._running.get(name):
            process.kill()

    async def close(self) -> None:
        """Ends all of them, and waits for that."""
        self.stopping = True
        await self._launcher.close()

    def start_replica(self, action: StartReplica) -> None:
        """Starts a replica; that it cannot be started is heard of like an end."""
        replica_id = action.replica_id
        program = self._settings.replica_program(replica_id, action.environment)
        logger.info("starting %s", replica_id)
        try:
            process = self._launcher.start(program, self._end_of(replica_id))
        except OSError as error:
            # As an event, not as part of this decision.
            ending = Ending(status=None, last_lines=(), not_started=str(error))
            asyncio.get_running_loop().call_soon(self._replica_ended, replica_id, ending)
            return
        self._running[replica_id] = process
        self._core.events.started(replica_id, process.pid)

    def start_gateway(self, gateway_id: str) -> None:
        """Starts a gateway worker, as above."""
        program = self._settings.gateway_program(gateway_id, self._gateways.arguments(gateway_id))
        try:
            process = self._launcher.start(program, self._gateway_ended_of(gateway_id))
        except OSError as error:
            self._gateways.started(gateway_id, 0, time.monotonic())
            ending = Ending(status=None, last_lines=(), not_started=str(error))
            asyncio.get_running_loop().call_soon(self._gateway_ended, gateway_id, ending)
            return
        self._running[gateway_id] = process
        self._gateways.started(gateway_id, process.pid, time.monotonic())

    def _end_of(self, replica_id: str) -> Callable[[Ending], None]:
        return lambda ending: self._replica_ended(replica_id, ending)

    def _replica_ended(self, replica_id: str, ending: Ending) -> None:
        self.recovery.heard(replica_id)
        lease = self._leases.find(replica_id)
        if lease is None:
            self._note_end(replica_id, ending)
            return
        # What it said last may still be on its way, and says more than its exit status.
        task = asyncio.get_running_loop().create_task(self._hear_out(replica_id, ending, lease))
        self._hearings.add(task)
        task.add_done_callback(self._hearings.discard)

    async def _hear_out(self, replica_id: str, ending: Ending, lease: Lease) -> None:
        try:
            await asyncio.wait_for(lease.closed.wait(), _LAST_WORDS_S)
        except TimeoutError:
            pass
        self._note_end(replica_id, ending)

    def _note_end(self, replica_id: str, ending: Ending) -> None:
        self._running.pop(replica_id, None)
        # A process that was killed leaves it behind.
        self._settings.socket_path(replica_id).unlink(missing_ok=True)
        replica = self._core.observed.replicas.get(replica_id)
        unexpected = replica is not None and replica.stop is None and not self.stopping
        logger.log(logging.WARNING if unexpected else logging.INFO, "%s ended with %s", replica_id, ending.how)
        self._core.events.process_ended(replica_id, ending.description, time.monotonic())
        self._act()

    def _gateway_ended_of(self, gateway_id: str) -> Callable[[Ending], None]:
        return lambda ending: self._gateway_ended(gateway_id, ending)

    def _gateway_ended(self, gateway_id: str, ending: Ending) -> None:
        self._running.pop(gateway_id, None)
        self.recovery.heard(gateway_id)
        self._core.gateway_lost(gateway_id)
        fatal = self._gateways.process_ended(gateway_id, ending.status, time.monotonic())
        reason = bind_failure(self._gateways.failure(gateway_id), ending)
        # Whoever started the instance says so when it is fatal.
        level = logging.INFO if self.stopping or fatal else logging.WARNING
        logger.log(level, "%s ended with %s%s", gateway_id, ending.how, reason and f": {reason}")
        if fatal and not self.fatal.done():
            self.fatal.set_result(reason or "a gateway worker could not start")
        self._act()
