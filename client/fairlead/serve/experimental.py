"""Ready-made request routers, under Ray Serve's names. Power of two choices and affinity by session need none."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from fairlead.serve.request_router import PendingRequest, RequestRouter, RunningReplica


class RoundRobinRouter(RequestRouter):
    """Each call to the next replica, whatever its load; to another one only where that is full."""

    def initialize_state(self) -> None:
        """Takes no arguments."""
        self._turn = -1

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """All of them, the next one first."""
        if not candidate_replicas:
            return []
        self._turn = (self._turn + 1) % len(candidate_replicas)
        return [[each] for each in (*candidate_replicas[self._turn :], *candidate_replicas[: self._turn])]


class ConsistentHashRouter(RequestRouter):
    """Calls of one session to one replica; when replicas come or go, only the sessions move that belonged to them.

    By rendezvous hashing, which needs no virtual nodes. A call without a session goes anywhere.
    """

    def initialize_state(self, num_virtual_nodes: int = 100, num_fallback_replicas: int = 2) -> None:
        """``num_fallback_replicas``: how many others may take a call while its own is full, in a fixed order.

        ``num_virtual_nodes`` is accepted for compatibility.
        """
        if num_fallback_replicas < 0:
            raise ValueError(f"num_fallback_replicas must be at least 0, not {num_fallback_replicas}")
        self._choices = 1 + num_fallback_replicas

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The session's own, then its fallbacks."""
        session_id = "" if pending_request is None else pending_request.metadata.session_id
        if not session_id:
            return [candidate_replicas]

        def weight(replica: RunningReplica) -> Any:
            return blake2b(f"{session_id}\0{replica.replica_id.unique_id}".encode(), digest_size=8).digest()

        return [[each] for each in sorted(candidate_replicas, key=weight, reverse=True)[: self._choices]]


__all__ = ["ConsistentHashRouter", "RoundRobinRouter"]
