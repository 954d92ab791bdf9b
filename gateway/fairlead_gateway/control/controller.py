"""The controller's shell: carries out what the core decides, and tells the core what happens."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.v1 import control_pb2, replica_pb2
from fairlead.wire.errors import DeployFailedError
from fairlead_gateway.control.actions import (
    Action,
    DrainReplica,
    KillGateway,
    KillReplica,
    PublishSnapshot,
    ReconfigureReplica,
    StartGateway,
    StartReplica,
)
from fairlead_gateway.control.core import Core
from fairlead_gateway.control.gateways import Doors, GatewaySupervisor
from fairlead_gateway.control.latest import Latest
from fairlead_gateway.control.launcher import Ending, Launcher, Process, Program
from fairlead_gateway.control.leases import Lease, Leases
from fairlead_gateway.control.observed import GatewayView
from fairlead_gateway.control.statuses import instance_status

logger = logging.getLogger("fairlead.controller")

_ADDRESS_VARIABLE = "FAIRLEAD_ADDRESS"
"""In replicas it names this controller: ``serve.status()`` and the like work there. Not imported from
``fairlead.serve``, which would bring the whole library along and start the controller 40 ms later."""

_LAST_WORDS_S = 1.0
"""The lease of a process that has ended has that long to end, too."""


@dataclass(frozen=True, kw_only=True)
class ControllerSettings:
    """How one instance runs."""

    directory: Path
    """Holds the instance's sockets."""
    doors: Doors
    """Where gateway workers listen."""
    owner_pid: int | None = None
    """The process that the instance ends with; None: it belongs to nobody."""
    gateways: int = 1
    """How many gateway workers."""
    gateway_module: str = "fairlead_gateway"
    """What a gateway worker runs."""
    replica_module: str = "fairlead_replica"
    """What a replica runs."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for all processes."""
    gateway_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """More of them, for gateway workers alone: secrets."""

    @property
    def address(self) -> str:
        """Where the controller listens."""
        return f"unix:{self.directory / 'controller.sock'}"


class Controller:
    """One instance: its applications, replicas and gateway workers. Used on one event loop."""

    def __init__(self, settings: ControllerSettings, launcher: Launcher) -> None:
        self.settings = settings
        self.core = Core(randomness=random.Random(), gateways=settings.gateways)  # noqa: S311 - names, not secrets
        self.gateways = GatewaySupervisor(directory=settings.directory, doors=settings.doors, count=settings.gateways)
        self.leases = Leases()
        self.snapshots = Latest(self.core.snapshot)
        self.statuses = Latest(instance_status(self.core, self.gateways.statuses()))
        self.fatal: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Settled with one line when the instance cannot run, because a gateway worker cannot open its doors."""
        self._launcher = launcher
        self._processes: dict[str, Process] = {}
        self._hearings: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._killed = False

    # Events.

    def deploy(self, spec: control_pb2.ApplicationSpec) -> int:
        """Takes a new goal for an application; its generation. Raises FairleadError."""
        if self._stopping:
            raise DeployFailedError("the instance is shutting down")
        generation = self.core.deploy(spec, time.time())
        logger.info("deploying application %r, generation %d", spec.name, generation)
        self._act()
        return generation

    async def delete(self, name: str) -> None:
        """Deletes an application; returns when it is gone, or was deployed anew."""
        goal = self.core.desired.applications.get(name)
        if goal is None:
            return
        logger.info("deleting application %r", name)
        self.core.delete(name)
        self._act()
        async for _ in self.statuses.changes():
            if self.core.desired.applications.get(name) is not goal:
                return

    def take_lease(self, replica_id: str, pid: int) -> replica_pb2.ReplicaAssignment:
        """A replica has called; what it shall run. Raises FairleadError for one that is not wanted."""
        assignment = self.core.assignment(replica_id, str(self._socket_path(replica_id)))
        assignment.gateway_addresses.extend(self.gateways.session_addresses)
        self.core.replica_started(replica_id, pid)
        self.core.lease_taken(replica_id)
        self.wake()
        return assignment

    def lease_event(self, replica_id: str, request: replica_pb2.RegisterRequest) -> None:
        """A replica has said something on its lease."""
        now = time.monotonic()
        match request.WhichOneof("event"):
            case "report":
                if not self.core.replica_reported(replica_id, request.report):
                    return
            case "ready":
                self.core.replica_ready(replica_id, request.ready.address, now)
            case "failed":
                failed = request.failed
                # The replica has logged the traceback.
                logger.info("%s could not start: %s", replica_id, failed.message)
                self.core.replica_failed(replica_id, failed.traceback or failed.message, now)
            case "drained":
                self.core.replica_drained(replica_id, now)
            case "reconfigured":
                if request.reconfigured.traceback:
                    logger.error("(%s) could not be reconfigured", replica_id)
                self.core.replica_reconfigured(replica_id, request.reconfigured.traceback)
        # At once rather than on the next turn of the loop: this is on the way of a cold start.
        self._act()

    def lease_lost(self, replica_id: str) -> None:
        """A replica's lease stream has ended."""
        self.core.lease_lost(replica_id, time.monotonic())
        self.wake()

    def gateway_said(self, view: GatewayView) -> None:
        """A gateway worker has said something on its watch."""
        self.core.gateway_said(view)
        self.gateways.said(view)
        self._act()

    def gateway_lost(self, gateway_id: str, pid: int) -> None:
        """A gateway worker's watch has ended."""
        view = self.core.observed.gateways.get(gateway_id)
        if view is not None and view.pid == pid:
            self.core.gateway_lost(gateway_id)
            self.gateways.lost(gateway_id)
            self.wake()

    def wake(self) -> None:
        """Has the loop decide anew."""
        self._wake.set()

    # The loop.

    async def run(self) -> None:
        """Decides and acts until cancelled or killed."""
        while not self._killed:
            self._wake.clear()
            self._decide()
            due = [time for time in (self.core.due, self.gateways.due) if time is not None]
            timeout = max(0.0, min(due) - time.monotonic()) if due else None
            try:
                await asyncio.wait_for(self._wake.wait(), timeout)
            except TimeoutError:
                pass

    async def shutdown(self) -> None:
        """Drains and ends all applications, then the gateway workers. Takes as long as the longest drain may."""
        logger.info("shutting down")
        self._stopping = True
        self.core.desired.delete_all()
        self._act()
        async for _ in self.statuses.changes():
            if not self.core.desired.applications and not self.core.observed.replicas:
                break
        self.core.drain_gateways()
        self.gateways.drain(time.monotonic())
        self._act()
        async for _ in self.statuses.changes():
            if self.gateways.ended:
                break
        await self._launcher.close()

    async def kill(self) -> None:
        """Ends all processes at once, and decides nothing from then on: nothing is started in their place."""
        self._stopping = self._killed = True
        await self._launcher.close()

    def _act(self) -> None:
        """Acts at once, and has the loop look at what comes next."""
        self._decide()
        self._wake.set()

    def _decide(self) -> None:
        if self._killed:
            return
        now = time.monotonic()
        for action in (*self.gateways.reconcile(now), *self.core.reconcile(now)):
            self._perform(action)
        self.statuses.set(instance_status(self.core, self.gateways.statuses()))

    def _perform(self, action: Action) -> None:
        match action:
            case StartReplica():
                self._start_replica(action)
            case StartGateway():
                self._start_gateway(action.gateway_id)
            case DrainReplica():
                drain = replica_pb2.ReplicaDrain(timeout_s=action.timeout_s)
                self.leases.send(action.replica_id, replica_pb2.RegisterResponse(drain=drain))
            case ReconfigureReplica():
                reconfigure = replica_pb2.ReplicaReconfigure(settings=action.settings)
                self.leases.send(action.replica_id, replica_pb2.RegisterResponse(reconfigure=reconfigure))
            case KillReplica() | KillGateway():
                name = action.replica_id if isinstance(action, KillReplica) else action.gateway_id
                logger.info("killing %s: %s", name, action.reason)
                if process := self._processes.get(name):
                    process.kill()
            case PublishSnapshot():
                self.snapshots.set(action.snapshot)

    def _start_replica(self, action: StartReplica) -> None:
        replica_id = action.replica_id
        program = Program(
            name=replica_id,
            module=self.settings.replica_module,
            arguments=("--controller", self.settings.address, "--replica-id", replica_id, *self._owner_arguments()),
            variables={
                **self.settings.variables,
                _ADDRESS_VARIABLE: self.settings.address,
                **action.environment.variables,
            },
            working_directory=action.environment.working_directory or None,
        )
        logger.info("starting %s", replica_id)
        try:
            process = self._launcher.start(program, lambda ending: self._replica_ended(replica_id, ending))
        except OSError as error:
            # As an event, not as part of this decision.
            ending = Ending(status=-1, last_lines=(f"It could not be started: {error}",))
            asyncio.get_running_loop().call_soon(self._replica_ended, replica_id, ending)
            return
        self._processes[replica_id] = process
        self.core.replica_started(replica_id, process.pid)

    def _replica_ended(self, replica_id: str, ending: Ending) -> None:
        lease = self.leases.find(replica_id)
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
        self._processes.pop(replica_id, None)
        # A process that was killed leaves it behind.
        self._socket_path(replica_id).unlink(missing_ok=True)
        replica = self.core.observed.replicas.get(replica_id)
        unexpected = replica is not None and replica.stop is None
        logger.log(logging.WARNING if unexpected else logging.INFO, "%s ended with %s", replica_id, ending.how)
        self.core.process_ended(replica_id, ending.description, time.monotonic())
        self._act()

    def _start_gateway(self, gateway_id: str) -> None:
        program = Program(
            name=gateway_id,
            module=self.settings.gateway_module,
            arguments=(
                "--controller",
                self.settings.address,
                *self.gateways.arguments(gateway_id),
                *self._owner_arguments(),
            ),
            variables={**self.settings.variables, **self.settings.gateway_variables},
        )
        process = self._launcher.start(program, lambda ending: self._gateway_ended(gateway_id, ending))
        self._processes[gateway_id] = process
        self.gateways.started(gateway_id, process.pid, time.monotonic())

    def _gateway_ended(self, gateway_id: str, ending: Ending) -> None:
        self._processes.pop(gateway_id, None)
        logger.log(logging.INFO if self._stopping else logging.WARNING, "%s ended with %s", gateway_id, ending.how)
        self.core.gateway_lost(gateway_id)
        if self.gateways.process_ended(gateway_id, ending.status, time.monotonic()) and not self.fatal.done():
            self.fatal.set_result(ending.last_lines[-1] if ending.last_lines else "a gateway worker could not start")
        self._act()

    def _socket_path(self, replica_id: str) -> Path:
        suffix = replica_id.rpartition("#")[2]
        return self.settings.directory / f"r-{suffix}.wire"

    def _owner_arguments(self) -> tuple[str, ...]:
        owner = self.settings.owner_pid
        return () if owner is None else ("--owner-pid", str(owner))
