"""A deployment in a gateway worker: its replicas, and the calls that wait for one."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from fairlead.v1 import control_pb2, session_pb2
from fairlead.wire.errors import (
    BackPressureError,
    DeploymentUnavailableError,
    FairleadError,
    GatewayDrainingError,
    TooManyCallsError,
)
from fairlead.wire.stream import Stream
from fairlead_gateway.routing.budget import RetryBudget
from fairlead_gateway.routing.call import Call
from fairlead_gateway.routing.failures import refusal
from fairlead_gateway.routing.model_wish import ModelWish
from fairlead_gateway.routing.pick import pick, pick_by_key, worth_waiting
from fairlead_gateway.routing.placement import Placement
from fairlead_gateway.routing.replica import Replica
from fairlead_gateway.routing.router_picks import RouterPicks

QUEUE_LIMIT = 100_000
"""How many calls may wait where the deployment sets no limit: every queue is bounded."""
QUEUE_BYTES = 1024 * 1024 * 1024
"""How many bytes of arguments may wait."""
KEPT_BYTES = 64 * 1024 * 1024
"""How many bytes of arguments may be kept of calls that run, in case they have to be sent again."""
MAX_PARKED = 64
"""How many calls may wait for replicas that have their models while others are free: each wake looks at all of them."""

_TIME_WEIGHT = 0.1
"""Of the latest call in the mean of their times."""


class Deployment:
    """Admits calls, queues them first in first out, and gives each a replica: at once, or when a slot is freed."""

    def __init__(
        self,
        application: str,
        name: str,
        clock: Callable[[], float],
        rand: Callable[[], float] = random.random,
        call_later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        """Makes one without replicas. ``call_later``: by ``clock``; None: the running loop's."""
        self.application = application
        self.name = name
        self.slots = 1
        self.max_queued = -1
        self.unavailable = ""
        self.status_code = 503
        self.retry_after_s: float | None = None
        self.interface = control_pb2.DeploymentInterface()
        """What it offers at the doors beyond calls by a method's name."""
        self.autoscaled = False
        """Whether the number of its replicas follows its calls."""
        self.on_starved: Callable[[], None] | None = None
        """Called when calls begin to wait and there is no replica at all, if it is autoscaled."""
        self.replicas: dict[str, Replica] = {}
        """All that the controller lists."""
        self.ready: list[Replica] = []
        """Those that can be picked."""
        self.queue: deque[Call] = deque()
        """Calls that wait, and some that gave up and are skipped."""
        self.again: deque[Call] = deque()
        """Calls that a replica did not take: they have waited longer than those in the queue."""
        self.parked: deque[Call] = deque()
        """Calls for which a replica is free, and which rather wait for one that has their model."""
        self.queued = 0
        """How many wait, in all three."""
        self.taken = 0
        """How many calls have come for it."""
        self.queued_bytes = 0
        """The size of their first pieces."""
        self.kept_bytes = 0
        """The size of the pieces that calls keep, those that run among them."""
        self.budget = RetryBudget()
        self._clock = clock
        self._random = rand
        self._call_later = call_later
        self._model_time_s = 0.0
        self._placement = Placement()
        self._router_picks: RouterPicks | None = None

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
        self.interface = routes.interface
        self.autoscaled = routes.autoscaled
        self._use_router(routes)
        self.unavailable = routes.unavailable_message
        self.wake()
        if self.unavailable:
            self._fail_waiting(DeploymentUnavailableError(self.unavailable))

    def delete(self) -> None:
        """It is not deployed any more: what waits fails, also what would wait from now on. What runs goes on."""
        self.replicas.clear()
        self.unavailable = f"deployment {self.application}#{self.name} was deleted"
        self._fail_waiting(DeploymentUnavailableError(self.unavailable))
        if self._router_picks is not None:
            self._router_picks.close()
            self._router_picks = None

    # -- calls

    def admit(self, call: Call) -> None:
        """Takes a call: to a replica, into the queue, or to its end."""
        call.upstream = self
        self.taken += 1
        self.budget.earn()
        if self.queued == len(self.parked):
            replica = self._pick(call)
            if replica is not None:
                if not self._dispatch(call, replica):
                    self._wake_again()
                return
        if self.unavailable:
            call.fail(DeploymentUnavailableError(self.unavailable))
            return
        limit = self._limit()
        if self.queued >= limit or self._bytes() + len(call.payload) > QUEUE_BYTES:
            call.fail(BackPressureError(self.queued, limit, self.status_code, self.retry_after_s))
            return
        if _rather_waits(call):
            self.parked.append(call)
        else:
            self.queue.append(call)
        self.queued += 1
        self.queued_bytes += len(call.payload)
        if self.autoscaled and self.queued == 1 and not self.replicas and self.on_starved is not None:
            self.on_starved()

    def _limit(self) -> int:
        return self.max_queued if 0 <= self.max_queued < QUEUE_LIMIT else QUEUE_LIMIT

    def _bytes(self) -> int:
        return self.queued_bytes + self.kept_bytes

    def _pick(self, call: Call) -> Replica | None:
        if self._router_picks is not None:
            return self._pick_by_router(call, self._router_picks)
        header = call.header
        key = header.multiplexed_model_id
        if key and (call.model is not None or self._multiplexes()):
            return self._pick_by_model(call, key)
        key = key or header.session_id
        if key:
            return pick_by_key(self.ready, self.slots, key, call.avoid)
        return pick(self.ready, self.slots, self._random, call.avoid)

    def _dispatch(self, call: Call, replica: Replica) -> bool:
        """Sends a call to a replica. False: the replica takes none, and the call waits again, before all others."""
        try:
            call.dispatch(replica, self._clock)
        except GatewayDrainingError:
            self.leave_rotation(replica)
        except TooManyCallsError:
            self._saturate(replica)
        except FairleadError as error:  # it is the call: no other replica would take it either
            call.fail(error)
            return True
        else:
            replica.in_flight += 1
            replica.load += 1
            if call.model is not None and call.stream is not None:
                call.model.since = self._clock()
                replica.send_model(call.model.model_id)
                self._placement.sent(replica)
            return True
        call.avoid = replica
        self.again.appendleft(call)
        self.queued += 1
        self.queued_bytes += len(call.payload)
        return False

    def wake(self) -> None:
        """Gives free slots to those that wait longest."""
        if self.parked:
            self._wake_parked()
        while self.queued > len(self.parked):
            queue = self.again or self.queue
            call = queue[0]
            if call.done:
                queue.popleft()
                continue
            replica = self._pick(call)
            if replica is None:
                if not _rather_waits(call):
                    return
                queue.popleft()
                self.parked.append(call)
                continue
            queue.popleft()
            self.queued -= 1
            self.queued_bytes -= len(call.payload)
            self._dispatch(call, replica)
        self.again.clear()
        self.queue.clear()

    def _wake_again(self) -> None:
        """After a replica did not take a call: another one does, or it waits, if there is something to wait for."""
        self.wake()
        if self.unavailable:
            self._fail_waiting(DeploymentUnavailableError(self.unavailable))

    def leave(self, call: Call) -> None:
        """A call that waits gives up. It is skipped when its turn comes."""
        self.queued -= 1
        self.queued_bytes -= len(call.payload)
        queue = self.queue
        if self.parked and call in self.parked:
            self.parked.remove(call)
        if not self.queued:
            self.again.clear()
            queue.clear()
        elif len(queue) > 2 * self.queued + 64:
            waiting = [other for other in queue if not other.done and other is not call]
            queue.clear()  # the same deque goes on: somebody further up the stack may be walking it
            queue.extend(waiting)

    def _fail_waiting(self, error: FairleadError) -> None:
        """Ends all calls that wait."""
        for queue in (self.again, self.queue, self.parked):
            for _ in range(len(queue)):
                if not queue:  # an end made another call give up, which emptied it
                    break
                call = queue.popleft()
                if not call.done:
                    self.queued -= 1
                    self.queued_bytes -= len(call.payload)
                    call.turn_away(error)

    def hold(self, call: Call, amount: int) -> bool:
        """Counts bytes that a call keeps. False: too much is kept already; a call that waits is ended for it."""
        if call.stream is not None:
            if self.kept_bytes + amount > KEPT_BYTES:
                return False
        elif self._bytes() + amount > QUEUE_BYTES:
            call.abandon(BackPressureError(self.queued, self._limit(), self.status_code, self.retry_after_s))
            return False
        self.kept_bytes += amount
        return True

    def let_go(self, amount: int) -> None:
        """Bytes that are not kept any more."""
        self.kept_bytes -= amount

    def release(self, replica: Replica) -> None:
        """A slot is free again: the call that waits longest gets it."""
        replica.in_flight -= 1
        replica.load -= 1
        if self.queued:
            self.wake()

    # -- the user's request router

    def _use_router(self, routes: control_pb2.DeploymentRoutes) -> None:
        before = self._router_picks
        wanted = routes.request_router if routes.HasField("request_router") else None
        if (None if before is None else before.settings) == wanted:
            return
        if before is not None:
            before.close()
        for call in self.parked:
            call.choice = None
        self._router_picks = None if wanted is None else RouterPicks(routes, self, self._random)

    def _pick_by_router(self, call: Call, picks: RouterPicks) -> Replica | None:
        key = call.header.multiplexed_model_id
        if key and call.model is None and self._multiplexes():
            call.model = ModelWish(key)
        return picks.pick(call, may_ask=len(self.parked) < MAX_PARKED or call in self.parked)

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Does something after so many seconds."""
        (self._call_later or asyncio.get_running_loop().call_later)(delay, action)

    # -- models

    def _multiplexes(self) -> bool:
        return any(replica.models is not None for replica in self.ready)

    def _pick_by_model(self, call: Call, model_id: str) -> Replica | None:
        """Picks for a model. None: all replicas are full, or with ``waits`` the call waits for one that has it."""
        wish = call.model
        if wish is None:
            wish = call.model = ModelWish(model_id)
            self._placement.note(model_id, self.ready)
        replica, wish.held = self._placement.pick(self.ready, self.slots, model_id, call.avoid)
        wish.waits = replica is not None and not wish.held and self._clock() < self._patience(wish)
        return None if wish.waits else replica

    def _patience(self, wish: ModelWish) -> float:
        """Until when a call waits for its model rather than have it loaded elsewhere; decided once."""
        if wish.until is None:
            wish.until = 0.0
            waiting = sum(call.model is not None and call.model.model_id == wish.model_id for call in self.parked)
            load_time_s = max((replica.load_time_s for replica in self.ready), default=0.0)
            if len(self.parked) < MAX_PARKED and worth_waiting(
                self.ready, self.slots, wish.model_id, load_time_s, self._model_time_s, waiting
            ):
                wish.until = self._clock() + load_time_s
                self.later(load_time_s, self.wake)
        return wish.until

    def _wake_parked(self) -> None:
        for call in list(self.parked):
            replica = self._pick(call)
            if replica is not None and call in self.parked:
                self.parked.remove(call)
                self.queued -= 1
                self.queued_bytes -= len(call.payload)
                self._dispatch(call, replica)

    def model_ended(self, model: ModelWish, replica: Replica) -> None:
        """A call for a model has left a replica."""
        if model.since < 0:
            return
        replica.end_model(model.model_id)
        if model.held:
            took = self._clock() - model.since
            known = self._model_time_s
            self._model_time_s = took if not known else known + _TIME_WEIGHT * (took - known)
        model.since = -1.0

    # -- failures

    def retry(self, call: Call, replica: Replica, stream: Stream, outcome: session_pb2.Outcome) -> bool:
        """Queues a call again that failed on a replica: if it provably did not start, or may run twice."""
        if call.answered or call.sent_more:
            return False
        if stream.never_started:
            self.leave_rotation(replica)
        elif stream.link.closed:
            self.leave_rotation(replica)
            if not (call.header.idempotent and self.budget.spend()):
                return False
        else:
            reason = refusal(outcome)
            if not reason:
                return False
            if reason == "REPLICA_DRAINING":
                self.leave_rotation(replica)
            else:
                self._saturate(replica)
        call.avoid = replica
        self.again.append(call)
        self.queued += 1
        self.queued_bytes += len(call.payload)
        self._wake_again()
        return True

    def _saturate(self, replica: Replica) -> None:
        """A replica says that it is full: it gets no more until one of its calls ends, or it reports otherwise."""
        replica.elsewhere = max(replica.elsewhere, self.slots - replica.in_flight + 1)
        replica.load = replica.in_flight + replica.elsewhere

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


def _rather_waits(call: Call) -> bool:
    """Whether a call waits for certain replicas, so that others need not wait for it."""
    return call.choice is not None or (call.model is not None and call.model.waits)
