"""Replicas in memory, and the door's end of a call: what the routing's tests talk to on either side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fairlead.v1 import control_pb2, session_pb2
from fairlead.wire.errors import ConnectionLostError, ReplicaBusyError, ReplicaDrainingError
from fairlead.wire.link import Link
from fairlead.wire.memory import link_pair
from fairlead.wire.outcomes import error_info, outcome_of
from fairlead.wire.stream import Stream, cost
from fairlead.wire.trust import Trust
from fairlead_gateway.routing.call import Call
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.replica import Replica
from tests.wire.calls import until


class FakeClock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class ReplicaCall:
    """A call as a replica has it. Takes what comes at once, or with ``reading = False`` when ``take()`` is called."""

    def __init__(self, stream: Stream, header: session_pb2.CallHeader, payload: bytes, more: bool, last: bool) -> None:
        self.stream = stream
        self.header = header
        self.payload = payload
        self.pieces: list[tuple[bytes, bool, bool]] = [(payload, more, last)]
        self.reading = True
        self.owed = 0
        self.cancelled = False
        self.writable = 0
        if not last:
            stream.link.consumed(stream, cost(payload))

    @property
    def request(self) -> bytes:
        """All that came, joined."""
        return b"".join(payload for payload, _, _ in self.pieces)

    @property
    def complete(self) -> bool:
        return self.pieces[-1][2]

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        self.pieces.append((payload, more, last))
        self.owed += cost(payload)
        if self.reading:
            self.take()

    def on_head(self, stream: Stream, metadata: Sequence[session_pb2.Metadata]) -> None:
        raise AssertionError("openers send no heads")

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        raise AssertionError("openers do not end calls")

    def on_cancel(self, stream: Stream) -> None:
        self.cancelled = True

    def on_writable(self, stream: Stream) -> None:
        self.writable += 1

    def take(self) -> None:
        owed, self.owed = self.owed, 0
        self.stream.link.consumed(self.stream, owed)

    def send(self, payload: bytes, more: bool = False) -> bool:
        return self.stream.link.send(self.stream, payload, more=more)

    def head(self, key: str, value: bytes) -> None:
        self.stream.link.head(self.stream, [session_pb2.Metadata(key=key, value=value)])

    def answer(self, payload: bytes | None = b"answer") -> None:
        self.stream.link.end(self.stream, None, payload)

    def fail(self, error: BaseException, traceback: str = "") -> None:
        self.stream.link.end(self.stream, outcome_of(error, traceback=traceback))


class FakeReplica:
    """A replica with ``slots`` slots. Calls are held until the test answers them, unless ``serve`` does something."""

    def __init__(self, replica_id: str = "app#Echo#a", slots: int = 1_000_000) -> None:
        self.replica_id = replica_id
        self.slots = slots
        self.draining = False
        self.calls: list[ReplicaCall] = []
        self.accepted = 0
        self.refused = 0
        self.serve: Callable[[ReplicaCall], None] = lambda call: None
        self.link: Link
        self.replica = Replica(replica_id, f"memory:{replica_id}")
        self._sequence = 0

    def connect(self, on_load: Callable[[session_pb2.Load], None] | None = None) -> Link:
        """A new session with it: the gateway's end."""
        opener, self.link = link_pair(self.accept, load=self.load if on_load is not None else None)
        opener._on_load = on_load
        return opener

    def join(self, deployment: Deployment) -> FakeReplica:
        """Connects it and puts it into a deployment's rotation."""
        self.replica.link = self.connect()
        deployment.replicas[self.replica_id] = self.replica
        deployment.enter_rotation(self.replica)
        return self

    @property
    def ongoing(self) -> list[ReplicaCall]:
        return [call for call in self.calls if not call.stream.closed]

    def load(self) -> session_pb2.Load:
        self._sequence += 1
        return session_pb2.Load(ongoing=len(self.ongoing), sequence=self._sequence)

    def accept(self, stream: Stream, header: session_pb2.CallHeader, payload: bytes, more: bool, last: bool) -> None:
        if self.draining or (len(self.ongoing) >= self.slots and not header.broadcast):
            self.refused += 1
            error = ReplicaDrainingError("draining") if self.draining else ReplicaBusyError("busy")
            stream.link.end(stream, outcome_of(error))
            return
        self.accepted += 1
        stream.owner = call = ReplicaCall(stream, header, payload, more, last)
        self.calls.append(call)
        self.serve(call)

    async def called(self, count: int = 1) -> ReplicaCall:
        """Its last call, when it has got so many."""
        await until(lambda: len(self.calls) >= count)
        return self.calls[-1]

    def die(self) -> None:
        """The connection breaks, as both ends see it."""
        for link in (self.replica.link, self.link):
            if link is not None:
                link.lose(ConnectionLostError("broken pipe"))


class Caller:
    """The door's end of a call (Downstream). Gives credit at once, or with ``reading = False`` when it ``take()``s."""

    def __init__(self) -> None:
        self.call: Any = None
        self.messages: list[tuple[bytes, bool]] = []
        self.heads: list[list[tuple[str, bytes]]] = []
        self.reading = True
        self.owed = 0
        self.ends = 0
        self.outcome: session_pb2.Outcome | None = None
        self.payload: bytes | None = None
        self.writable = 0
        self.then: Callable[[], None] = lambda: None
        """Called at the end, from within ``on_end``."""

    def __repr__(self) -> str:
        return f"<Caller ends={self.ends} {self.reason or self.payload!r}>"

    def on_message(self, payload: bytes, more: bool) -> None:
        assert not self.ends, "a message after the end"
        self.messages.append((payload, more))
        self.owed += cost(payload)
        if self.reading:
            self.take()

    def on_head(self, metadata: Sequence[session_pb2.Metadata]) -> None:
        assert not self.heads, "a second head"
        assert not self.messages, "a head after a message"
        assert not self.ends, "a head after the end"
        self.heads.append([(entry.key, entry.value) for entry in metadata])

    def on_end(self, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        self.ends += 1
        assert self.ends == 1, "a second end"
        self.outcome = outcome
        self.payload = payload
        self.then()

    def on_writable(self) -> None:
        self.writable += 1

    def take(self) -> None:
        owed, self.owed = self.owed, 0
        if self.call is not None:
            self.call.consumed(owed)

    @property
    def reason(self) -> str:
        """The ErrorReason that it failed with; empty: it did not."""
        info = error_info(self.outcome.status) if self.outcome is not None else None
        return info.reason if info is not None else ""

    @property
    def message(self) -> str:
        """What is said of the failure; empty: it did not fail."""
        return self.outcome.status.message if self.outcome is not None else ""

    async def end(self) -> Caller:
        await until(lambda: self.ends)
        return self


def call_of(
    payload: bytes = b"request", *, trust: Trust = Trust.OWNER, more: bool = False, last: bool = True, **header: Any
) -> tuple[Call, Caller]:
    """A call and its caller."""
    caller = Caller()
    fields = {"application": "app", "deployment": "Echo"} | header
    caller.call = Call(session_pb2.CallHeader(**fields), payload, caller, trust, more, last)
    return caller.call, caller


def admit(deployment: Deployment, payload: bytes = b"request", **options: Any) -> Caller:
    """Has a deployment admit a call."""
    call, caller = call_of(payload, **options)
    deployment.admit(call)
    return caller


def routes(
    *replica_ids: str, slots: int = 1, name: str = "Echo", max_queued: int = -1, **fields: Any
) -> control_pb2.DeploymentRoutes:
    """What the controller says of a deployment."""
    listed = [control_pb2.ReplicaRoute(replica_id=each, address=f"memory:{each}") for each in replica_ids]
    return control_pb2.DeploymentRoutes(
        name=name, max_ongoing_requests=slots, max_queued_requests=max_queued, replicas=listed, **fields
    )


def application(*deployments: control_pb2.DeploymentRoutes, name: str = "app", **fields: Any) -> Any:
    """What the controller says of an application."""
    return control_pb2.ApplicationRoutes(
        name=name, ingress_deployment=deployments[0].name if deployments else "", deployments=deployments, **fields
    )


def snapshot(*applications: Any, version: int = 1, drain: bool = False) -> control_pb2.WatchResponse:
    """What the controller says of everything."""
    return control_pb2.WatchResponse(version=version, applications=applications, drain=drain)


async def settle(turns: int = 12) -> None:
    """Lets everything that is under way in memory arrive."""
    for _ in range(turns):
        await asyncio.sleep(0)


def waiting(deployment: Deployment) -> int:
    """How many calls wait, counted anew; what the deployment counted must agree."""
    calls = [call for call in (*deployment.again, *deployment.queue) if not call.done]
    assert deployment.queued == len(calls)
    assert deployment.queued_bytes == sum(len(call.payload) for call in calls)
    return len(calls)


async def result(caller: Caller) -> bytes | None:
    await caller.end()
    assert caller.outcome is None, caller.reason
    return caller.payload
