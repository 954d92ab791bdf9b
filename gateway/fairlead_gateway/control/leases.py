"""What is still to be said to replicas on their leases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fairlead.v1 import replica_pb2


class Lease:
    """The controller's end of one lease stream. Used on one event loop."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        """Set when the stream has ended and all that came on it was heard."""
        self._commands: asyncio.Queue[replica_pb2.RegisterResponse | None] = asyncio.Queue()

    def send(self, command: replica_pb2.RegisterResponse) -> None:
        """Queues a command. Few are ever under way: each follows from a change that somebody asked for."""
        self._commands.put_nowait(command)

    def end(self) -> None:
        """Ends :meth:`commands` after what was queued."""
        self._commands.put_nowait(None)

    async def commands(self) -> AsyncIterator[replica_pb2.RegisterResponse]:
        """What is to be said, in order, until the lease ends."""
        while (command := await self._commands.get()) is not None:
            yield command


class Leases:
    """The open leases by replica id."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}

    def open(self, replica_id: str) -> Lease:
        """A new lease; it takes the place of an older one of the same replica, which ends."""
        if older := self._leases.get(replica_id):
            older.end()
        lease = self._leases[replica_id] = Lease()
        return lease

    def close(self, replica_id: str, lease: Lease) -> bool:
        """Forgets a lease that has ended; whether no other has taken its place."""
        lease.closed.set()
        if self._leases.get(replica_id) is not lease:
            return False
        del self._leases[replica_id]
        return True

    def find(self, replica_id: str) -> Lease | None:
        """The open lease of a replica."""
        return self._leases.get(replica_id)

    def send(self, replica_id: str, command: replica_pb2.RegisterResponse) -> None:
        """Says something to a replica; nothing happens if its lease is lost."""
        if lease := self._leases.get(replica_id):
            lease.send(command)
