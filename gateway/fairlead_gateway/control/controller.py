"""The controller's shell: carries out what the core decides, and tells the core what happens."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import time
from collections.abc import Collection, Mapping, Sequence

from fairlead.v1 import control_pb2, replica_pb2
from fairlead.version import __version__
from fairlead.wire.errors import DeployFailedError, InvalidCallError
from fairlead_gateway.control.actions import (
    Action,
    AskPolicy,
    DrainReplica,
    KillGateway,
    KillReplica,
    PolicyKey,
    PublishSnapshot,
    ReconfigureReplica,
    StartGateway,
    StartReplica,
)
from fairlead_gateway.control.core import LEASE_GRACE_S, Core
from fairlead_gateway.control.gateways import GatewaySupervisor
from fairlead_gateway.control.latest import Latest
from fairlead_gateway.control.launcher import Launcher
from fairlead_gateway.control.leases import Leases
from fairlead_gateway.control.observed import GatewayView
from fairlead_gateway.control.persistence import Persistence
from fairlead_gateway.control.policies import Policies
from fairlead_gateway.control.processes import Processes
from fairlead_gateway.control.processor_time import processor_time
from fairlead_gateway.control.registrations import Registrations
from fairlead_gateway.control.settings import ControllerSettings
from fairlead_gateway.control.standing import Traffic
from fairlead_gateway.control.statuses import instance_status
from fairlead_gateway.control.stopping import ACKNOWLEDGEMENT_S
from fairlead_gateway.control.store import MemoryStore, Store

logger = logging.getLogger("fairlead.controller")


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
        self.gateways = GatewaySupervisor(
            directory=settings.directory, doors=settings.doors, count=settings.gateways, processor_time=processor_time
        )
        self.persistence.restore(self.core)
        self.recovered = asyncio.Event()
        """Set when all that an earlier controller has left is known: before that there are no snapshots."""
        self._about = control_pb2.ControllerStatus(
            pid=os.getpid(), version=__version__, standing=settings.owner_pid is None, started_time_s=time.time()
        )
        self.snapshots = Latest(self.core.snapshot)
        self.statuses = Latest(self._status())
        self._applied: Latest[int | None] = Latest(None)
        leases = Leases()
        self.processes = Processes(settings, launcher, self.core, self.gateways, leases, self._act)
        self.registrations = Registrations(
            settings, self.core, self.gateways, leases, self.processes, act=self._act, wake=self.wake
        )
        self._policies = Policies(settings.policy_module, self._policy_answered)
        self._wake = asyncio.Event()
        self._killed = False

    # Events.

    def deploy(
        self,
        specs: Sequence[control_pb2.ApplicationSpec],
        deleted: Collection[str] = (),
        *,
        expected_generation: int | None = None,
        policies: Sequence[control_pb2.TrafficPolicy] = (),
    ) -> list[int]:
        """Takes goals for applications, all or none, and deletes others; their generations. Raises FairleadError.

        ``expected_generation`` of the first one, as in DeployRequest; ``policies`` are of its endpoints.
        """
        self._refuse_while_stopping()
        if expected_generation is not None:
            self.core.goals.check_generation(specs[0].name, expected_generation)
        now = time.time()
        goals = self.core.desired.prepare(specs, now, deleted)
        traffic: dict[str, Traffic] = {}
        if policies:
            name = specs[0].name
            traffic[name] = self.core.goals.with_traffic(name, *policies, goals=goals, deleted=deleted)
        known = self.core.desired.applications
        self.persistence.deploying(goals, [known[name] for name in deleted if name in known], traffic)
        for name in deleted:
            self.core.goals.delete(name)
        for goal in goals:
            generation = self.core.goals.accept(goal, traffic.get(goal.name))
            logger.info("deploying application %r, generation %d", goal.name, generation)
        for policy in policies:
            logger.info("traffic of %r in application %r: %s", policy.name, specs[0].name, _described(policy))
        self._act()
        return [goal.generation for goal in goals]

    async def delete(
        self, name: str, *, wait: bool = True, force: bool = False, expected_generation: int | None = None
    ) -> None:
        """Deletes an application; returns when it is gone, or was deployed anew. Raises FairleadError.

        Without ``wait`` it returns when that is noted. With ``force`` calls under way are lost. ``expected_generation``
        as in DeleteRequest.
        """
        if expected_generation is not None:
            self.core.goals.check_generation(name, expected_generation)
        goal = self.core.desired.applications.get(name)
        if goal is None:
            return
        logger.info("deleting application %r", name)
        self.persistence.deploying([], [goal])
        self.core.goals.delete(name, force=force)
        self._act()
        if not wait:
            return
        async for _ in self.statuses.changes():
            if self.core.desired.applications.get(name) is not goal:
                return

    def _refuse_while_stopping(self) -> None:
        if self.processes.stopping:
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

    def gateway_said(self, view: GatewayView) -> None:
        """A gateway worker has said something on its watch."""
        self.processes.recovery.heard(view.gateway_id)
        self.core.gateway_said(view)
        self.gateways.said(view)
        self._act()

    def gateway_loads(self, request: control_pb2.WatchRequest) -> None:
        """A gateway worker tells the calls that it has, as often as shows that it is not frozen."""
        now = time.monotonic()
        self.gateways.heard(request.gateway_id, now)
        if self.core.gateway_loads(request.gateway_id, request.loads, now):
            self._act()

    def _policy_answered(self, policy: PolicyKey, replicas: Mapping[str, int], failure: str) -> None:
        if self.core.scaling.answered(policy, replicas, failure):
            logger.error("the autoscaling policy of %s failed: %s", "/".join(filter(None, policy)), failure)
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
        recovery = None if self.recovered.is_set() else self.processes.recovery.deadline
        times = [time for time in (self.core.due, self.gateways.due, recovery) if time is not None]
        due = min(times, default=math.inf)
        while True:
            looks = [time for time in (self.core.look_due, self.gateways.look_due) if time is not None]
            until = min([due, *looks])
            timeout = None if until == math.inf else max(0.0, until - time.monotonic())
            try:
                await asyncio.wait_for(self._wake.wait(), timeout)
            except TimeoutError:
                now = time.monotonic()
                found = [self.gateways.look(now), self.core.look(now)]
                if now < due and not any(found):
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
        self.processes.stopping = True
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
        await self.processes.close()

    async def kill(self) -> None:
        """Ends all processes at once, and decides nothing from then on: nothing is started in their place."""
        self.processes.stopping = self._killed = True
        await self._policies.close()
        await self.processes.close()

    def _act(self) -> None:
        """Acts at once, and has the loop look at what comes next."""
        self._decide()
        self._wake.set()

    def _decide(self) -> None:
        if self._killed:
            return
        now = time.monotonic()
        actions = self.gateways.reconcile(now)
        if self.processes.recovery.is_over(now):
            self._end_recovery()
            actions += self.core.reconcile(now)
        for action in actions:
            self._perform(action)
        self._policies.keep(self.core.scaling.policies)
        self.persistence.follow(self.core)
        self.statuses.set(self._status())
        self._applied.set(min((view.applied_version for view in self.core.observed.gateways.values()), default=None))

    def _end_recovery(self) -> None:
        if self.recovered.is_set():
            return
        self.recovered.set()
        for name in self.processes.recovery.awaited:
            logger.warning("%s runs and has not registered for %.0f s; it is ended", name, LEASE_GRACE_S)
            self.processes.kill(name)

    def _status(self) -> control_pb2.InstanceStatus:
        status = instance_status(self.core, self.gateways.statuses())
        status.controller.CopyFrom(self._about)
        return status

    def _perform(self, action: Action) -> None:
        match action:
            case StartReplica():
                self.processes.start_replica(action)
            case StartGateway():
                self.processes.start_gateway(action.gateway_id)
            case DrainReplica():
                drain = replica_pb2.ReplicaDrain(timeout_s=action.timeout_s)
                self.registrations.leases.send(action.replica_id, replica_pb2.RegisterResponse(drain=drain))
            case ReconfigureReplica():
                reconfigure = replica_pb2.ReplicaReconfigure(settings=action.settings)
                self.registrations.leases.send(action.replica_id, replica_pb2.RegisterResponse(reconfigure=reconfigure))
            case KillReplica() | KillGateway():
                name = action.replica_id if isinstance(action, KillReplica) else action.gateway_id
                logger.info("killing %s: %s", name, action.reason)
                self.processes.kill(name)
            case AskPolicy():
                self._policies.ask(action)
            case PublishSnapshot():
                self.snapshots.set(action.snapshot)


def _described(policy: control_pb2.TrafficPolicy) -> str:
    shares = [(share, "") for share in policy.backends] + [(share, " as a shadow") for share in policy.shadows]
    return (
        ", ".join(f"{one.share:.1%} to {one.application}/{one.deployment}{how}" for one, how in shares) or "not spread"
    )
