"""A gateway in memory between callers' sessions and replicas'."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fairlead.v1 import session_pb2
from fairlead.wire.frames import MAX_PIECE
from fairlead.wire.link import Link
from fairlead.wire.memory import link_pair
from fairlead.wire.messages import MessageReader
from fairlead.wire.outcomes import error_info
from fairlead.wire.stream import INITIAL_CREDIT, Stream
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.session_door import SessionDoor
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.router import Router
from tests.routing.fake_replica import FakeReplica, ReplicaCall, application, routes, snapshot
from tests.wire.calls import PATIENCE, Caller
from tests.wire.message_writer import MessageWriter

JSON = session_pb2.SERIALIZATION_JSON
CLOUDPICKLE = session_pb2.SERIALIZATION_CLOUDPICKLE
LARGE = bytes(range(256)) * (5 * 4096)  # 5 MiB
BOUND = INITIAL_CREDIT + MAX_PIECE
"""Bytes that may be under way on one leg of a call that nobody reads."""


class Stage:
    """A gateway with a deployment of one slot-rich replica, and callers' links into it."""

    def __init__(self, slots: int = 100) -> None:
        self.router = Router(asyncio.get_running_loop())
        self.door = SessionDoor(self.router)
        self.trust = Trust.OWNER
        self.links: list[Link] = []
        self.replicas: list[FakeReplica] = []
        self.router.table.apply(snapshot(application(routes(slots=slots))))

    @property
    def deployment(self) -> Deployment:
        return self.router.table.find("app", "Echo")

    def replica(self, name: str = "a") -> FakeReplica:
        made = FakeReplica(name).join(self.deployment)
        self.replicas.append(made)
        return made

    def caller_link(self) -> Link:
        """A session with the door: the caller's end. ``session_handler`` would do the rest over gRPC."""
        opener, acceptor = link_pair(self.door.acceptor(self.trust))
        self.links += (opener, acceptor)
        self.door.links.add(acceptor)
        return opener

    @property
    def waiting_to_be_written(self) -> int:
        """Bytes that the gateway holds: in outboxes, and in streams that wait for credit."""
        sessions = [link.session for link in self.links[1::2]]
        sessions += [replica.replica.link.session for replica in self.replicas]
        streams = [stream for session in sessions for stream in session.streams.values()]
        pending = sum(len(payload) for stream in streams for payload, _, _ in stream.pending or ())
        return pending + sum(session.outbox.size for session in sessions)

    def idle(self) -> bool:
        sessions = [link.session for link in self.links]
        sessions += [replica.replica.link.session for replica in self.replicas]
        return not any(session.streams for session in sessions) and not any(
            replica.replica.in_flight for replica in self.replicas
        )


@contextlib.asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """A stage that is cleared at the end; fails where a task is left behind."""
    made = Stage()
    yield made
    for link in made.links:
        await asyncio.wait_for(link.close(), PATIENCE)
    for replica in made.replicas:
        replica.die()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    if rest:
        _, rest = await asyncio.wait(rest, timeout=PATIENCE)
    assert not rest


class Call(Caller):
    """A caller's call with any header."""

    def start(self, link: Link, payload: bytes = b"[[], {}]", *, last: bool = True, **fields: Any) -> Call:
        defaults = {"request_serialization": JSON, "response_serialization": JSON}
        header = session_pb2.CallHeader(**(defaults | fields))
        self.stream = link.open(header, payload, self, last=last)
        self.writer = MessageWriter(self.stream)
        return self

    async def reason(self) -> str:
        outcome = await self.outcome()
        assert outcome is not None
        info = error_info(outcome.status)
        assert info is not None
        return info.reason


class Reading:
    """Gathers a replica call's messages one by one, as a method of the user's would."""

    def __init__(self, call: ReplicaCall) -> None:
        self.reader = MessageReader()
        self.buffered = 0
        call.on_message = self.on_message  # type: ignore[method-assign]

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        self.buffered += len(payload)
        self.reader.feed(stream, payload, more, last)

    async def get(self) -> bytes:
        message = await asyncio.wait_for(self.reader.get(), PATIENCE)
        self.buffered -= len(message)
        return message
