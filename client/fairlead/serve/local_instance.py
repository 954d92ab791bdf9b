"""An instance in this very process, for local testing mode: no ports, no other processes, the same routing and hosting.

The gateway runs in a thread, each replica in one of its own; handles reach them as they reach those of other processes.
The two programs are known by name only, as when they are started: the library imports neither.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from fairlead.serve import connection
from fairlead.serve.context import ReplicaContext, ReplicaName, ReplicaRank
from fairlead.serve.deployment import Application
from fairlead.serve.instance import Instance
from fairlead.serve.local_graph import LocalDeployment, LocalGraph
from fairlead.serve.wireloop import WireThread
from fairlead.v1 import control_pb2, session_pb2
from fairlead.wire.credentials import NONE, Credentials
from fairlead.wire.errors import ConnectionLostError, FairleadError
from fairlead.wire.link import Link
from fairlead.wire.trust import Trust

T = TypeVar("T")

_ADDRESS = "in-process:"


class Replica(Protocol):
    """``fairlead_replica.embedded.EmbeddedReplica``."""

    replica_id: str

    def start(self) -> None:
        """Starts constructing the user's object."""

    def wait_ready(self) -> None:
        """Blocks until it can be called. Raises what the user's code raised."""

    async def connect(self, on_load: Callable[[session_pb2.Load], None]) -> Link:
        """A session with it."""

    def stop(self) -> None:
        """Has it drain and end."""

    def join(self) -> None:
        """Blocks until it has ended."""


class Gateway(Protocol):
    """``fairlead_gateway.embedded.EmbeddedGateway``."""

    def dial(self) -> Link:
        """A session with it."""

    def checked_policy(
        self, application: str, policy: control_pb2.TrafficPolicy, applications: Mapping[str, Collection[str]]
    ) -> control_pb2.TrafficPolicy:
        """The policy, complete. Raises FairleadError that says what is wrong with it."""

    async def apply(self, snapshot: control_pb2.WatchResponse) -> None:
        """Routes by a snapshot."""

    async def close(self) -> None:
        """Ends all sessions."""


@dataclass(kw_only=True, slots=True)
class _Running:
    """An application and what runs of it."""

    name: str
    ingress: str
    deployments: list[LocalDeployment]
    replicas: dict[str, list[Replica]]
    """Those that can be called, by deployment."""
    traffic: dict[str, control_pb2.TrafficPolicy] = field(default_factory=dict)
    """How calls are spread, by endpoint."""
    state: control_pb2.ApplicationState.ValueType = control_pb2.APPLICATION_STATE_DEPLOYING
    since: float = field(default_factory=time.time)

    def all(self) -> list[Replica]:
        """All replicas."""
        return [replica for replicas in self.replicas.values() for replica in replicas]


class LocalInstance(Instance):
    """The instance of a process in local testing mode. Its methods block, and may be called from several threads."""

    def __init__(self) -> None:
        super().__init__(_ADDRESS)
        self._running: dict[str, _Running] = {}
        self._by_address: dict[str, Replica] = {}
        self._version = 0
        self._deploying = threading.RLock()
        self._thread = WireThread()
        self._connection = connection.Connection(self._dial)
        self._gateway: Gateway = self._on_loop(self._set_up())
        self._connection.set_address(_ADDRESS, Trust.OWNER)
        self._before = connection.use(self._connection)

    def __repr__(self) -> str:
        return f"<LocalInstance {list(self._running)}>"

    @property
    def remote(self) -> bool:
        """Whether it is known by a gateway's port only: no."""
        return False

    @property
    def away(self) -> bool:
        """Whether its controller has ended: no, it has none."""
        return False

    @property
    def controls(self) -> bool:
        """Whether this is an instance to deploy to and to look at: yes."""
        return True

    def gateway(self) -> tuple[str, Trust, Credentials]:
        """Where calls go: nowhere but to this process."""
        return _ADDRESS, Trust.OWNER, NONE

    # -- applications

    def run(self, target: Application[Any], name: str) -> str:
        """Runs an application in the place of one of that name; its ingress deployment.

        Raises what a constructor, ``reconfigure`` or ``check_health`` raises; what ran before then goes on.
        """
        graph = LocalGraph(name)
        ingress = graph.add(target)
        with self._deploying:
            before = self._running.get(name)
            old = dict(before.replicas) if before is not None else {}
            traffic = before.traffic if before is not None else {}
            now = _Running(name=name, ingress=ingress, deployments=graph.deployments, replicas=old, traffic=traffic)
            self._running[name] = now
            new: dict[str, list[Replica]] = {}
            try:
                self._publish()  # without replicas: calls that constructors make to each other wait
                for deployment in graph.deployments:
                    new[deployment.name] = self._start(name, deployment)
                for deployment_name, replicas in new.items():
                    for replica in replicas:
                        replica.wait_ready()
                    now.replicas = {**now.replicas, deployment_name: replicas}
                    self._publish()
            except BaseException:
                self._restore(name, before)
                self._end([replica for replicas in new.values() for replica in replicas])
                raise
            now.replicas = new
            now.state = control_pb2.APPLICATION_STATE_RUNNING
            self._publish()
            self._end([replica for replicas in old.values() for replica in replicas])
        return ingress

    def _restore(self, name: str, before: _Running | None) -> None:
        if before is None:
            del self._running[name]
        else:
            self._running[name] = before
        self._publish()

    def _start(self, application: str, deployment: LocalDeployment) -> list[Replica]:
        """Starts the replicas of a deployment."""
        settings = deployment.settings
        replicas = []
        for rank in range(max(1, settings.num_replicas)):
            context = ReplicaContext(
                app_name=application,
                deployment=deployment.name,
                replica_id=ReplicaName(f"{application}#{deployment.name}#{uuid4().hex[:8]}"),
                rank=ReplicaRank(rank=rank, local_rank=rank),
                world_size=max(1, settings.num_replicas),
            )
            replica: Replica = importlib.import_module("fairlead_replica.embedded").EmbeddedReplica(
                deployment.code,
                deployment.args,
                deployment.kwargs,
                settings=settings,
                context=context,
                interface=deployment.interface,
            )
            self._by_address[replica.replica_id] = replica
            replica.start()
            replicas.append(replica)
        return replicas

    def _end(self, replicas: list[Replica]) -> None:
        for replica in replicas:
            replica.stop()
        for replica in replicas:
            replica.join()
            self._by_address.pop(replica.replica_id, None)

    def delete(
        self,
        name: str,
        *,
        wait: bool = True,
        force: bool = False,
        timeout_s: float = 60.0,
        expected_generation: int | None = None,
    ) -> None:
        """Drains and ends an application. It always waits, whatever it is told; there are no generations."""
        with self._deploying:
            running = self._running.pop(name, None)
            if running is not None:
                self._publish()
                self._end(running.all())

    def set_traffic(self, application: str, policy: control_pb2.TrafficPolicy) -> None:
        """Spreads an endpoint's calls; returns when it counts. Raises FairleadError for what makes no sense."""
        with self._deploying:
            there = {one.name: [each.name for each in one.deployments] for one in self._running.values()}
            policy = self._gateway.checked_policy(application, policy, there)
            traffic = self._running[application].traffic
            traffic.pop(policy.name, None)
            if policy.backends:
                traffic[policy.name] = policy
            self._publish()

    def status(self) -> control_pb2.InstanceStatus:
        """The state of everything."""
        return control_pb2.InstanceStatus(applications=[_status(each) for each in list(self._running.values())])

    def shut_down(self, timeout_s: float | None = None) -> None:
        """Drains and ends everything. The process's connection is again what it was."""
        with self._deploying:
            for name in list(self._running):
                self.delete(name)
        self._on_loop(self._tear_down())
        self._thread.stop()
        if connection.current() is self._connection:
            connection.use(self._before)

    # -- on the gateway's loop

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._thread.loop).result()

    async def _set_up(self) -> Gateway:
        self._connection.use_loop(asyncio.get_running_loop())
        gateway: Gateway = importlib.import_module("fairlead_gateway.embedded").EmbeddedGateway(self._connect)
        return gateway

    async def _dial(self, address: str) -> Link:
        return self._gateway.dial()

    async def _connect(self, address: str, on_load: Callable[[session_pb2.Load], None]) -> Link:
        replica = self._by_address.get(address)
        if replica is None:
            raise ConnectionLostError(f"replica {address} has ended")
        return await replica.connect(on_load)

    async def _tear_down(self) -> None:
        await self._connection.aclose()
        await self._gateway.close()

    def _publish(self) -> None:
        """Has the gateway route what runs."""
        self._version += 1
        routes = [_routes(running) for running in self._running.values()]
        self._on_loop(self._gateway.apply(control_pb2.WatchResponse(version=self._version, applications=routes)))


def _routes(running: _Running) -> control_pb2.ApplicationRoutes:
    return control_pb2.ApplicationRoutes(
        name=running.name,
        ingress_deployment=running.ingress,
        serving=True,
        traffic=running.traffic.values(),
        deployments=[_deployment_routes(each, running.replicas.get(each.name, [])) for each in running.deployments],
    )


def _deployment_routes(deployment: LocalDeployment, replicas: list[Replica]) -> control_pb2.DeploymentRoutes:
    settings = deployment.settings
    routes = control_pb2.DeploymentRoutes(
        name=deployment.name,
        max_ongoing_requests=settings.max_ongoing_requests,
        max_queued_requests=settings.max_queued_requests,
        backpressure_status_code=settings.backpressure_status_code,
        replicas=[control_pb2.ReplicaRoute(replica_id=each.replica_id, address=each.replica_id) for each in replicas],
    )
    if settings.HasField("backpressure_retry_after_s"):
        routes.backpressure_retry_after_s = settings.backpressure_retry_after_s
    if settings.HasField("request_router"):
        routes.request_router.CopyFrom(settings.request_router)
    return routes


def _status(running: _Running) -> control_pb2.ApplicationStatus:
    return control_pb2.ApplicationStatus(
        name=running.name,
        state=running.state,
        ingress_deployment=running.ingress,
        last_deployed_time_s=running.since,
        traffic=running.traffic.values(),
        deployments=[
            control_pb2.DeploymentStatus(
                name=deployment.name,
                state=control_pb2.DEPLOYMENT_STATE_HEALTHY
                if running.state == control_pb2.APPLICATION_STATE_RUNNING
                else control_pb2.DEPLOYMENT_STATE_UPDATING,
                replicas=[
                    control_pb2.ReplicaStatus(replica_id=replica.replica_id, state=control_pb2.REPLICA_STATE_RUNNING)
                    for replica in running.replicas.get(deployment.name, [])
                ],
            )
            for deployment in running.deployments
        ],
    )


def refuse_other_instance(instance: Instance | None, *, local: bool) -> None:
    """Raises FairleadError if this process uses an instance of the other kind: handles lead to one of them only."""
    if instance is not None and isinstance(instance, LocalInstance) is not local:
        here = "outside of" if local else "in"
        raise FairleadError(
            f"This process runs applications {here} local testing mode: call `serve.shutdown()` before the other way."
        )
