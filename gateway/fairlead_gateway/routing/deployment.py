"""A deployment in a gateway worker: its replicas, and the calls that wait for one."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import grpc

from fairlead.v1 import control_pb2, session_pb2
from fairlead.wire.errors import (
    BackPressureError,
    DeploymentUnavailableError,
    FairleadError,
    ReplicaUnavailableError,
)
from fairlead.wire.outcomes import error_info, outcome_of
from fairlead.wire.session import Stream
from fairlead_gateway.routing.budget import RetryBudget
from fairlead_gateway.routing.call import Call
from fairlead_gateway.routing.pick import pick, pick_by_key
from fairlead_gateway.routing.replica import Replica

QUEUE_LIMIT = 100_000
"""How many calls may wait where the deployment sets no limit: every queue is bounded."""
QUEUE_BYTES = 1024 * 1024 * 1024
"""How many bytes of arguments may wait."""

_UNAVAILABLE: int = grpc.StatusCode.UNAVAILABLE.value[0]
_RESOURCE_EXHAUSTED: int = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


class Deployment:
    """Admits calls, queues them first in first out, and gives each a replica: at once, or when a slot is freed."""

    def __init__(
        self, application: str, name: str, clock: Callable[[], float], rand: Callable[[], float] = random.random
    ) -> None:
        self.application = application
        self.name = name
        self.slots = 1
        self.max_queued = -1
        self.unavailable = ""
        self.status_code = 503
        self.retry_after_s: float | None = None
        self.replicas: dict[str, Replica] = {}
        """All that the controller lists."""
        self.ready: list[Replica] = []
        """Those that can be picked."""
        self.queue: deque[Call] = deque()
        """Calls that wait, and some that gave up and are skipped."""
        self.queued = 0
        self.queued_bytes = 0
        self.budget = RetryBudget()
        self._clock = clock
        self._random = rand

    def __repr__(self) -> str:
        return f"<Deployment {self.application}#{self.name} ready={self.ready} queued={self.queued}>"

    def configure(self, routes: control_pb2.DeploymentRoutes) -> None:
        """Takes in settings. What waits may go on, or fail, because of them."""
        self.slots = max(1, routes.max_ongoing_requests)
        self.max_queued = routes.max_queued_requests
        self.status_code = routes.backpressure_status_code or 503
        self.retry_after_s = (
            routes.backpressure_retry_after_s if routes.HasField("backpressure_retry_after_s") else None
        )
        self.unavailable = routes.unavailable_message
        if self.unavailable:
            self.fail_waiting(DeploymentUnavailableError(self.unavailable))
        self.wake()

    # -- calls

    def admit(self, call: Call) -> None:
        """Takes a call: to a replica, into the queue, or to its end."""
        call.upstream = self
        self.budget.earn()
        if not self.queued:
            replica = self._pick(call)
            if replica is not None:
                self._dispatch(call, replica)
                return
        if self.unavailable:
            call.fail(DeploymentUnavailableError(self.unavailable))
            return
        limit = self.max_queued if 0 <= self.max_queued < QUEUE_LIMIT else QUEUE_LIMIT
        if self.queued >= limit or self.queued_bytes + len(call.payload) > QUEUE_BYTES:
            call.fail(BackPressureError(self.queued, limit, self.status_code, self.retry_after_s))
            return
        self._enqueue(call, first=False)

    def _enqueue(self, call: Call, first: bool) -> None:
        if first:
            self.queue.appendleft(call)
        else:
            self.queue.append(call)
        self.queued += 1
        self.queued_bytes += len(call.payload)

    def _pick(self, call: Call) -> Replica | None:
        header = call.header
        key = header.multiplexed_model_id or header.session_id
        if key:
            return pick_by_key(self.ready, self.slots, key, call.avoid)
        return pick(self.ready, self.slots, self._random, call.avoid)

    def _dispatch(self, call: Call, replica: Replica) -> None:
        try:
            call.dispatch(replica, self._clock())
        except FairleadError:  # it takes no more calls, and this one did not start
            self.leave_rotation(replica)
            call.avoid = replica
            self._enqueue(call, first=True)
            self.wake()
            return
        replica.in_flight += 1
        replica.load += 1

    def wake(self) -> None:
        """Gives free slots to those that wait longest."""
        queue = self.queue
        while self.queued:
            call = queue[0]
            if call.done:
                queue.popleft()
                continue
            replica = self._pick(call)
            if replica is None:
                return
            queue.popleft()
            self.queued -= 1
            self.queued_bytes -= len(call.payload)
            self._dispatch(call, replica)
        queue.clear()

    def leave(self, call: Call) -> None:
        """A call that waits gives up. It is skipped when its turn comes."""
        self.queued -= 1
        self.queued_bytes -= len(call.payload)
        if not self.queued:
            self.queue.clear()
        elif len(self.queue) > 2 * self.queued + 64:
            self.queue = deque(waiting for waiting in self.queue if not waiting.done and waiting is not call)

    def fail_waiting(self, error: FairleadError) -> None:
        """Ends all calls that wait."""
        waiting = [call for call in self.queue if not call.done]
        self.queue.clear()
        self.queued = self.queued_bytes = 0
        for call in waiting:
            call.fail(error)

    def release(self, replica: Replica) -> None:
        """A slot is free again: the call that waits longest gets it."""
        replica.in_flight -= 1
        replica.load -= 1
        if self.queued:
            self.wake()

    # -- failures

    def retry(self, call: Call, replica: Replica, stream: Stream, outcome: session_pb2.Outcome) -> bool:
        """Queues a call again that failed on a replica: if it provably did not start, or may run twice."""
        if call.answered or call.sent_more or outcome.status.code not in (_UNAVAILABLE, _RESOURCE_EXHAUSTED):
            return False
        info = error_info(outcome.status)
        reason = info.reason if info is not None else ""
        refused = stream.never_started or reason in ("REPLICA_BUSY", "REPLICA_DRAINING", "GATEWAY_DRAINING")
        if reason == "TOO_MANY_CALLS" and outcome.status.code == _RESOURCE_EXHAUSTED:
            refused = True
        lost = reason == "CONNECTION_LOST"
        if not refused and not (lost and call.header.idempotent and self.budget.spend()):
            return False
        if reason == "REPLICA_BUSY":
            replica.elsewhere = max(replica.elsewhere, self.slots - replica.in_flight + 1)
            replica.load = replica.in_flight + replica.elsewhere
        elif lost or reason != "TOO_MANY_CALLS":
            self.leave_rotation(replica)
        call.avoid = replica
        self._enqueue(call, first=True)
        self.wake()
        return True

    def explain(self, call: Call, replica: Replica, outcome: session_pb2.Outcome) -> session_pb2.Outcome:
        """Says of a lost connection which replica it was, and why the call was not sent again."""
        if outcome.status.code != _UNAVAILABLE:
            return outcome
        info = error_info(outcome.status)
        if info is None or info.reason != "CONNECTION_LOST":
            return outcome
        if call.answered:
            why = "part of the answer had been sent"
        elif not call.header.idempotent:
            why = "it may have started, and it is not declared idempotent"
        elif call.sent_more:
            why = "it had streamed part of its arguments"
        else:
            why = "the retry budget is used up"
        message = f"replica {replica.replica_id} was lost while it had the call; not sent again, because {why}"
        error = ReplicaUnavailableError(message, metadata={"replica_id": replica.replica_id})
        return outcome_of(error, trusted=False)

    # -- replicas

    def enter_rotation(self, replica: Replica) -> None:
        """A replica can be called."""
        if replica not in self.ready:
            self.ready.append(replica)
        self.wake()

    def leave_rotation(self, replica: Replica) -> None:
        """A replica is not to be picked any more. Its calls go on."""
        if replica in self.ready:
            self.ready.remove(replica)
