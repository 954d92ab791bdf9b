"""A controller as a replica sees it: takes registrations, hands out one assignment, notes what it hears."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from fairlead.v1 import replica_pb2, replica_pb2_grpc


class FakeController(replica_pb2_grpc.ReplicaServiceServicer):
    def __init__(self, assignment: replica_pb2.ReplicaAssignment) -> None:
        self.assignment = assignment
        self.events: list[replica_pb2.RegisterRequest] = []
        self.hung_up = 0
        self._changed = asyncio.Condition()
        self._commands: asyncio.Queue[replica_pb2.RegisterResponse] = asyncio.Queue()

    async def Register(self, requests: Any, context: Any) -> AsyncIterator[replica_pb2.RegisterResponse]:
        hello = await anext(requests)
        await self._note(hello)
        yield replica_pb2.RegisterResponse(assignment=self.assignment)
        listener = asyncio.create_task(self._listen(requests))
        try:
            while True:
                command = asyncio.create_task(self._commands.get())
                await asyncio.wait({command, listener}, return_when=asyncio.FIRST_COMPLETED)
                if not command.done():
                    command.cancel()
                    return
                yield command.result()
        finally:
            listener.cancel()

    async def _listen(self, requests: Any) -> None:
        async for event in requests:
            await self._note(event)
        async with self._changed:
            self.hung_up += 1
            self._changed.notify_all()

    async def _note(self, event: replica_pb2.RegisterRequest) -> None:
        async with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def command(self, command: replica_pb2.RegisterResponse) -> None:
        self._commands.put_nowait(command)

    def heard(self, kind: str) -> list[Any]:
        return [getattr(event, kind) for event in self.events if event.WhichOneof("event") == kind]

    async def hear(self, *kinds: str, times: int = 1, timeout_s: float = 20) -> Any:
        """Waits for events of one of these kinds; returns the last one."""
        async with self._changed:
            await asyncio.wait_for(
                self._changed.wait_for(lambda: sum(len(self.heard(kind)) for kind in kinds) >= times), timeout_s
            )
        return [event for event in self.events if event.WhichOneof("event") in kinds][-1]


@contextlib.asynccontextmanager
async def serving(controller: FakeController, address: str) -> AsyncIterator[None]:
    server = grpc.aio.server()
    replica_pb2_grpc.add_ReplicaServiceServicer_to_server(controller, server)
    server.add_insecure_port(address)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
