"""A router without replicas: calls end up in functions of the test's, and what doors do to them is recorded.

It fulfils the contract of ``fairlead_gateway.edge.upstream.CallRouter``: trust is checked before anything is decoded,
errors come through ``on_end`` (of an unknown application even before ``start`` returns), a cancelled call ends at once,
and response messages stop while their credit is out.
"""

import asyncio
import itertools
from collections.abc import Callable

from fairlead.v1 import control_pb2, session_pb2
from fairlead.wire.codecs import codec_of
from fairlead.wire.errors import DeadlineExceededError, FairleadError, RequestCancelledError
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.stream import INITIAL_CREDIT, cost
from fairlead.wire.trust import Trust, check_serialization
from fairlead_gateway.routing.call import Downstream
from fairlead_gateway.routing.table import RouteTable


class FakeCall:
    """One call, with everything that its door did."""

    def __init__(self, header, payload, downstream, trust):
        self.header = header
        self.payload = payload
        self.downstream = downstream
        self.trust = trust
        self.sent: list[bytes] = []
        self.half_closed = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.arrived = asyncio.Event()
        self.credit = INITIAL_CREDIT
        self.done = False
        self.accepts = True
        self.timer: asyncio.TimerHandle | None = None
        self._more_credit = asyncio.Event()

    # -- what doors call

    def send(self, payload: bytes, *, more: bool = False, last: bool = False) -> bool:
        if last:
            self.half_closed.set()
        if payload or not last:
            self.sent.append(payload)
        self.arrived.set()
        return self.accepts

    def cancel(self) -> None:
        if not self.done:
            self.cancelled.set()
            self.end(RequestCancelledError())

    def consumed(self, amount: int) -> None:
        self.credit += amount
        assert self.credit <= INITIAL_CREDIT, "more credit returned than was used"
        self._more_credit.set()

    # -- what tests call

    def end(self, error: BaseException | None = None, payload: bytes | None = None) -> None:
        if self.done:
            return
        self.done = True
        if self.timer is not None:
            self.timer.cancel()
        outcome = None if error is None else outcome_of(error, trusted=True, traceback="Traceback: secret.py")
        self.downstream.on_end(outcome, payload)

    def message(self, payload: bytes, more: bool = False) -> None:
        if not self.done:
            self.credit -= cost(payload)
            self.downstream.on_message(payload, more)

    def head(self, **metadata: bytes) -> None:
        """Initial metadata; hyphens of their keys are underscores."""
        if not self.done:
            entries = [session_pb2.Metadata(key=key.replace("_", "-"), value=value) for key, value in metadata.items()]
            self.downstream.on_head(entries)

    async def stream(self, payload: bytes) -> None:
        """Like ``message``, when there is credit."""
        while self.credit <= 0 and not self.done:
            self._more_credit.clear()
            await self._more_credit.wait()
        self.message(payload)


class FakeRouter:
    """``behave(call)`` does what replicas would; a coroutine function runs as a task."""

    def __init__(self, behave: Callable[[FakeCall], object] = lambda call: call.end(None, call.payload)):
        self.table = RouteTable(asyncio.get_running_loop().time)
        self.draining = False
        self.behave = behave
        self.calls: list[FakeCall] = []
        self.called = asyncio.Event()
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Future[object]] = set()

    def deploy(self, *applications: control_pb2.ApplicationRoutes) -> None:
        self.table.apply(control_pb2.WatchResponse(version=self.table.version + 1, applications=applications))

    def start(
        self,
        header: session_pb2.CallHeader,
        payload: bytes,
        downstream: Downstream,
        *,
        trust: Trust,
        more: bool = False,
        last: bool = True,
    ) -> FakeCall:
        call = FakeCall(header, payload, downstream, trust)
        try:
            check_serialization(header.request_serialization, trust)
            check_serialization(header.response_serialization, trust)
            self.table.find(header.application, header.deployment)
        except FairleadError as error:
            call.end(error)
            return call
        self.calls.append(call)
        self.called.set()
        if not header.request_id:
            header.request_id = f"made-{next(self._ids)}"
        if last:
            call.half_closed.set()
        if header.timeout_us:
            call.timer = asyncio.get_running_loop().call_later(
                header.timeout_us / 1e6, lambda: call.end(DeadlineExceededError("the deadline passed"))
            )
        result = self.behave(call)
        if asyncio.iscoroutine(result):
            task = asyncio.ensure_future(result)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return call


def application(name: str = "default", *, route_prefix: str | None = "/", replicas: int = 1, serving: bool = True):
    """An application with one deployment, ``Echo``."""
    return control_pb2.ApplicationRoutes(
        name=name,
        route_prefix=route_prefix,
        ingress_deployment="Echo",
        serving=serving,
        deployments=[
            control_pb2.DeploymentRoutes(
                name="Echo",
                max_ongoing_requests=5,
                max_queued_requests=-1,
                replicas=[
                    control_pb2.ReplicaRoute(replica_id=f"{name}#Echo#{n}", address="unix:/nowhere")
                    for n in range(replicas)
                ],
            )
        ],
    )


def arguments(call: FakeCall) -> object:
    """The payload of a call, decoded as a replica would: pickles are unpickled here, and nowhere else."""
    return codec_of(call.header.request_serialization).loads(call.payload)
