"""The controller's shell: carries out what the core decides, and tells the core what happens."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from fairlead.v1 import control_pb2, replica_pb2
from fairlead.version import __version__
from fairlead.wire.errors import DeployFailedError, FairleadError, InvalidCallError
from fairlead_gateway.control.actions import (
    Action,
    AskPolicy,
    DrainReplica,
    KillGateway,
    KillReplica,
    PublishSnapshot,
    ReconfigureReplica,
    StartGateway,
    StartReplica,
)
from fairlead_gateway.control.adoption import Recovery
from fairlead_gateway.control.core import LEASE_GRACE_S, Core
from fairlead_gateway.control.gateways import GatewaySupervisor
from fairlead_gateway.control.latest import Latest
from fairlead_gateway.control.launcher import Ending, Launcher, Process
from fairlead_gateway.control.leases import Lease, Leases
from fairlead_gateway.control.observed import GatewayView
from fairlead_gateway.control.persistence import Persistence
from fairlead_gateway.control.policies import Policies
from fairlead_gateway.control.processor_time import processor_time
from fairlead_gateway.control.settings import ControllerSettings, bind_failure
from fairlead_gateway.control.statuses import instance_status
from fairlead_gateway.control.stopping import ACKNOWLEDGEMENT_S
from fairlead_gateway.control.store import MemoryStore, Store

logger = logging.getLogger("fairlead.controller")

_LAST_WORDS_S = 1.0
"""The lease of a process that has ended has that long to end, too."""


class Controller:
    """One instance: its applications, replicas and gateway workers. Used on one event loop."""

    def __init__(self, settings: ControllerSettings, launcher: Launcher, store: Store | None = None) -> None:
        """``store``: None: the instance ends with its driver. Raises StoreError."""
        self.settings = settings
        self.persistence = Persistence(store or MemoryStore())
        self.core = Core(
            randomness=random.Random(),  # noqa: S311 - names, not secrets
            gateways=settings.gateways,
            processor_time=processor_time,
        )
        self.gateways = GatewaySupervisor(directory=settings.directory, doors=settings.doors, count=settings.gateways)
        self.persistence.restore(self.core)
        self.leases = Leases()
        self.recovered = asyncio.Event()
        """Set when all that an earlier controller has left is known: before that there are no snapshots."""
        self._recovery = Recovery()
        self._about = control_pb2.ControllerStatus(
            pid=os.getpid(), version=__version__, standing=settings.owner_pid is None, started_time_s=time.time()
        )
        self.snapshots = Latest(self.core.snapshot)
        self.statuses = Latest(self._status())
        self._applied: Latest[int | None] = Latest(None)
        self.fatal: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Settled with one line when the instance cannot run, because a gateway worker cannot open its doors."""
        self._launcher = launcher
        self._policies = Policies(settings.policy_module, self._policy_answered)
        self._processes: dict[str, Process] = {}
        self._hearings: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._killed = False

    def recover(self, found: Mapping[str, int]) -> None:
        """Takes over processes of an earlier controller: ids by name. Before :meth:`run`."""
        now = time.monotonic()
        self._recovery = Recovery(found, now + LEASE_GRACE_S)
        for name, pid in found.items():
            is_gateway = self.gateways.knows(name)
            process = self._launcher.adopt(
                name, pid, self._gateway_ended_of(name) if is_gateway else self._end_of(name)
            )
            if process is None:
                self._recovery.heard(name)
                continue
            self._processes[name] = process
            if is_gateway:
                self.gateways.adopted(name, pid, now)
        if found:
            logger.warning("taking over %d processes of an earlier controller", len(self._processes))

    # Events.

    def deploy(self, specs: Sequence[control_pb2.ApplicationSpec], deleted: Collection[str] = ()) -> list[int]:
        """Takes goals for applications, all or none, and deletes others; their generations. Raises FairleadError."""
        self._refuse_while_stopping()
        now = time.time()
        goals = self.core.desired.prepare(specs, now, deleted)
        known = self.core.desired.applications
        self.persistence.deploying(goals, [known[name] for name in deleted if name in known])
        for name in deleted:
            self.core.goals.delete(name)
        for goal in goals:
            logger.info("deploying application %r, generation %d", goal.name, self.core.goals.accept(goal))
        self._act()
        return [goal.generation for goal in goals]

    async def delete(self, name: str) -> None:
        """Deletes an application; returns when it is gone, or was deployed anew. Raises FairleadError."""
        goal = self.core.desired.applications.get(name)
        if goal is None:
            return
        logger.info("deleting application %r", name)
        self.persistence.deploying([], [goal])
        self.core.goals.delete(name)
        self._act()
        async for _ in self.statuses.changes():
            if self.core.desired.applications.get(name) is not goal:
                return

    def _refuse_while_stopping(self) -> None:
        if self._stopping:
            raise DeployFailedError("the instance is shutting down")

    def scale(self, application: str, deployment: str, num_replicas: int) -> int:
        """Changes how many replicas a deployment has; the application's new generation. Raises FairleadError."""
        goal = self.core.desired.applications.get(application)
        if goal is None or goal.deleting or deployment not in goal.deployments:
            raise InvalidCallError(f"there is no deployment {deployment!r} in an application {application!r}")
        if goal.deployments[deployment].spec.settings.HasField("autoscaling"):
            raise InvalidCallError(
                f"deployment {deployment!r} in application {application!r} scales by itself; deploy it with another "
                "autoscaling_config, or without one"
            )
        spec = control_pb2.ApplicationSpec()
        spec.CopyFrom(goal.spec)
        for one in spec.deployments:
            if one.name == deployment:
                one.settings.num_replicas = num_replicas
        return self.deploy([spec])[0]

    async def set_traffic(self, application: str, policy: control_pb2.TrafficPolicy) -> None:
        """Spreads an endpoint's calls; returns when gateway workers do so. Raises FairleadError."""
        self._refuse_while_stopping()
        traffic = self.core.goals.with_traffic(application, policy)
        self.persistence.spreading(self.core, application, traffic)
        self.core.goals.spread(application, traffic)
        logger.info("traffic of %r in application %r: %s", policy.name, application, _described(policy))
        self._act()
        version = self.core.snapshot.version
        try:
            async with asyncio.timeout(ACKNOWLEDGEMENT_S):
                async for applied in self._applied.changes():
                    if applied is None or applied >= version:
                        return
        except TimeoutError:
            logger.warning("not all gateway workers have answered; they are told when they come back")

    def take_lease(self, hello: replica_pb2.ReplicaHello) -> replica_pb2.ReplicaAssignment | None:
        """A replica has called; what it shall run, None if it runs already and only has to hear what changes.

        Raises FairleadError for one that is not wanted; it is ended.
        """
        replica_id = hello.replica_id
        adopted = replica_id not in self.core.observed.replicas and self.core.events.adopt(hello, time.monotonic())
        if adopted and replica_id not in self._processes:
            process = self._launcher.adopt(replica_id, hello.pid, self._end_of(replica_id))
            if process is not None:
                self._processes[replica_id] = process
        self._recovery.heard(replica_id)
        assignment = self._assignment(hello)
        self.core.events.started(replica_id, hello.pid)
        self.core.events.lease_taken(replica_id)
        self.wake()
        return assignment

    def _assignment(self, hello: replica_pb2.ReplicaHello) -> replica_pb2.ReplicaAssignment | None:
        try:
            assignment = self.core.events.assignment(hello.replica_id, str(self.settings.socket_path(hello.replica_id)))
        except FairleadError:
            if hello.HasField("running") and hello.replica_id in self.core.observed.replicas:
                return None
            if process := self._launcher.adopt(hello.replica_id, hello.pid, lambda _: None):
                process.kill()
            raise
        if hello.HasField("running"):
            self.core.observed.replicas[hello.replica_id].settings = hello.running.settings
        assignment.gateway_addresses.extend(self.gateways.session_addresses)
        return assignment

    def lease_event(self, replica_id: str, request: replica_pb2.RegisterRequest) -> None:
        """A replica has said something on its lease."""
        now = time.monotonic()
        returned = self.core.events.heard(replica_id, now)
        match request.WhichOneof("event"):
            case "report":
                if not self.core.events.reported(replica_id, request.report) and not returned:
                    return
            case "ready":
                self.core.events.ready(replica_id, request.ready.address, now)
            case "failed":
                failed = request.failed
                # The replica has logged the traceback.
                logger.info("%s could not start: %s", replica_id, failed.message)
                self.core.events.failed(replica_id, failed.traceback or failed.message, now)
            case "drained":
                self.core.events.drained(replica_id, now)
            case "reconfigured":
                if request.reconfigured.traceback:
                    logger.error("(%s) could not be reconfigured", replica_id)
                self.core.events.reconfigured(replica_id, request.reconfigured.traceback)
        # At once rather than on the next turn of the loop: this is on the way of a cold start.
        self._act()

    def lease_lost(self, replica_id: str) -> None:
        """A replica's lease stream has ended."""
        self.core.events.lease_lost(replica_id, time.monotonic())
        self.wake()

    def gateway_said(self, view: GatewayView) -> None:
        """A gateway worker has said something on its watch."""
        self._recovery.heard(view.gateway_id)
        self.core.gateway_said(view)
        self.gateways.said(view)
        self._act()

    def gateway_loads(self, request: control_pb2.WatchRequest) -> None:
        """A gateway worker tells the calls that it has."""
        if self.core.gateway_loads(request.gateway_id, request.loads, time.monotonic()):
            self._act()

    def _policy_answered(self, key: tuple[str, str], replicas: int | None, failure: str) -> None:
        if failure and not self.core.scaling.failure(key):
            logger.error("the autoscaling policy of %s failed: %s", "/".join(key), failure)
        self.core.scaling.answered(key, replicas, failure)
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
            await self._rest()

    async def _rest(self) -> None:
        """Returns when there may be something to decide; looks after the replicas meanwhile."""
        recovery = None if self.recovered.is_set() else self._recovery.deadline
        times = [time for time in (self.core.due, self.gateways.due, recovery) if time is not None]
        due = min(times, default=math.inf)
        while True:
            until = due if self.core.look_due is None else min(due, self.core.look_due)
            timeout = None if until == math.inf else max(0.0, until - time.monotonic())
            try:
                await asyncio.wait_for(self._wake.wait(), timeout)
            except TimeoutError:
                now = time.monotonic()
                if now < due and not self.core.look(now):
                    continue
            return

    def forget(self) -> None:
        """Writes down that all applications are deleted, before :meth:`shutdown` does it. Raises FairleadError."""
        self.persistence.deploying([], list(self.core.desired.applications.values()))

    async def shutdown(self, *, forget: bool = True) -> None:
        """Drains and ends all applications, then the gateway workers. Takes as long as the longest drain may.

        ``forget``: whether the applications are deleted; else they come up again with the next controller.
        """
        logger.info("shutting down")
        self._stopping = True
        if not forget:
            self.persistence.freeze()
        self.core.end()
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
        await self._policies.close()
        await self._launcher.close()

    async def kill(self) -> None:
        """Ends all processes at once, and decides nothing from then on: nothing is started in their place."""
        self._stopping = self._killed = True
        await self._policies.close()
        await self._launcher.close()

    def _act(self) -> None:
        """Acts at once, and has the loop look at what comes next."""
        self._decide()
        self._wake.set()

    def _decide(self) -> None:
        if self._killed:
            return
        now = time.monotonic()
        actions = self.gateways.reconcile(now)
        if self._recovery.is_over(now):
            self._end_recovery()
            actions += self.core.reconcile(now)
        for action in actions:
            self._perform(action)
        self._policies.keep(self.core.scaling.with_policies)
        self.persistence.follow(self.core)
        self.statuses.set(self._status())
        self._applied.set(min((view.applied_version for view in self.core.observed.gateways.values()), default=None))

    def _end_recovery(self) -> None:
        if self.recovered.is_set():
            return
        self.recovered.set()
        for name in self._recovery.awaited:
            logger.warning("%s runs and has not registered for %.0f s; it is ended", name, LEASE_GRACE_S)
            if process := self._processes.get(name):
                process.kill()

    def _status(self) -> control_pb2.InstanceStatus:
        status = instance_status(self.core, self.gateways.statuses())
        status.controller.CopyFrom(self._about)
        return status

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
            case AskPolicy():
                self._policies.ask(action)
            case PublishSnapshot():
                self.snapshots.set(action.snapshot)

    def _start_replica(self, action: StartReplica) -> None:
        replica_id = action.replica_id
        program = self.settings.replica_program(replica_id, action.environment)
        logger.info("starting %s", replica_id)
        try:
            process = self._launcher.start(program, self._end_of(replica_id))
        except OSError as error:
            # As an event, not as part of this decision.
            ending = Ending(status=-1, last_lines=(f"It could not be started: {error}",))
            asyncio.get_running_loop().call_soon(self._replica_ended, replica_id, ending)
            return
        self._processes[replica_id] = process
        self.core.events.started(replica_id, process.pid)

    def _end_of(self, replica_id: str) -> Callable[[Ending], None]:
        return lambda ending: self._replica_ended(replica_id, ending)

    def _replica_ended(self, replica_id: str, ending: Ending) -> None:
        self._recovery.heard(replica_id)
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
        self.settings.socket_path(replica_id).unlink(missing_ok=True)
        replica = self.core.observed.replicas.get(replica_id)
        unexpected = replica is not None and replica.stop is None
        logger.log(logging.WARNING if unexpected else logging.INFO, "%s ended with %s", replica_id, ending.how)
        self.core.events.process_ended(replica_id, ending.description, time.monotonic())
        self._act()

    def _start_gateway(self, gateway_id: str) -> None:
        program = self.settings.gateway_program(gateway_id, self.gateways.arguments(gateway_id))
        try:
            process = self._launcher.start(program, self._gateway_ended_of(gateway_id))
        except OSError as error:
            self.gateways.started(gateway_id, 0, time.monotonic())
            ending = Ending(status=None, last_lines=(f"It could not be started: {error}",))
            asyncio.get_running_loop().call_soon(self._gateway_ended, gateway_id, ending)
            return
        self._processes[gateway_id] = process
        self.gateways.started(gateway_id, process.pid, time.monotonic())

    def _gateway_ended_of(self, gateway_id: str) -> Callable[[Ending], None]:
        return lambda ending: self._gateway_ended(gateway_id, ending)

    def _gateway_ended(self, gateway_id: str, ending: Ending) -> None:
        self._processes.pop(gateway_id, None)
        self._recovery.heard(gateway_id)
        self.core.gateway_lost(gateway_id)
        fatal = self.gateways.process_ended(gateway_id, ending.status, time.monotonic())
        reason = bind_failure(self.gateways.failure(gateway_id), ending)
        # Whoever started the instance says so when it is fatal.
        level = logging.INFO if self._stopping or fatal else logging.WARNING
        logger.log(level, "%s ended with %s%s", gateway_id, ending.how, reason and f": {reason}")
        if fatal and not self.fatal.done():
            self.fatal.set_result(reason or "a gateway worker could not start")
        self._act()


def _described(policy: control_pb2.TrafficPolicy) -> str:
    shares = [(share, "") for share in policy.backends] + [(share, " as a shadow") for share in policy.shadows]
    return (
        ", ".join(f"{one.share:.1%} to {one.application}/{one.deployment}{how}" for one, how in shares) or "not spread"
    )
