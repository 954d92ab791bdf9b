"""Questions to a user's request router, and answers in time: where it is slow, broken or gone, there are none."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from fairlead.serve.handle import DeploymentID
from fairlead.serve.request_router import (
    CHOICE_TIMEOUT_S,
    PendingRequest,
    ReplicaID,
    RequestMetadata,
    RunningReplica,
)
from fairlead.v1 import control_pb2, session_pb2
from fairlead_gateway.routing.choice import Ranks
from fairlead_gateway.routing.replica import Replica
from fairlead_gateway.routing.router_thread import RouterThread

_HTTP = session_pb2.SERIALIZATION_HTTP
_PATIENCE = 1.5
"""Times the time that a choice may take: after that the thread itself is held up."""

Answer = Callable[[Ranks | None], None]


class Chooser:
    """Asks one router. Belongs to the worker's loop; answers come there, each exactly once, maybe at once."""

    def __init__(
        self,
        settings: control_pb2.RequestRouterSettings,
        sys_path: Sequence[str],
        application: str,
        deployment: str,
        *,
        timeout_s: float = CHOICE_TIMEOUT_S,
    ) -> None:
        self.settings = settings
        """What it was made for."""
        self._deployment_id = DeploymentID(deployment, application)
        self._loop = asyncio.get_running_loop()
        self._patience_s = timeout_s * _PATIENCE
        self._thread = RouterThread(settings, sys_path, self._deployment_id, timeout_s)
        self._open: dict[int, tuple[Answer, float]] = {}
        self._number = 0
        self._watch: asyncio.TimerHandle | None = None
        self._stuck = False
        self._answers: deque[tuple[int, Ranks | None]] = deque()
        self._awake = False
        self._replicas: dict[Replica, RunningReplica] = {}

    def __repr__(self) -> str:
        state = "stuck" if self._stuck else "usable" if self._thread.usable else "not usable"
        return f"<Chooser of {self._deployment_id} {state}, {len(self._open)} questions>"

    def ask(
        self, header: session_pb2.CallHeader, replicas: Sequence[Replica], slots: int, answer: Answer
    ) -> PendingRequest | None:
        """Has the router choose among replicas for a call. What it was told of the call; None: it is not to be asked.

        ``answer`` then gets None at once, and also where the router fails or takes too long.
        """
        if self._stuck or not self._thread.usable:
            answer(None)
            return None
        pending = _pending(header)
        self._number = number = self._number + 1
        self._open[number] = (answer, self._loop.time())
        if self._watch is None:
            self._watch = self._loop.call_later(self._patience_s, self._look)
        candidates = tuple(self._running(replica, slots) for replica in replicas)
        self._thread.ask(pending, candidates, lambda ranks: self._take(number, ranks))
        return pending

    def routed(self, pending: PendingRequest, replica: Replica) -> None:
        """A call that was asked about was sent to a replica."""
        if self._thread.hears_of_routes and self._thread.usable:
            self._thread.routed(pending, self._running(replica, 0).replica_id)

    def close(self) -> None:
        """Ends it. Open questions are answered with None."""
        self._thread.close()
        if self._watch is not None:
            self._watch.cancel()
        self._give_up()

    def _running(self, replica: Replica, slots: int) -> RunningReplica:
        running = self._replicas.get(replica)
        if running is None:
            unique_id = replica.replica_id.rpartition("#")[2]
            running = self._replicas[replica] = RunningReplica(
                ReplicaID(unique_id, self._deployment_id), slots, replica
            )
            for gone in [each for each in self._replicas if each.link is None and each is not replica]:
                del self._replicas[gone]
        if slots:
            running.max_ongoing_requests = slots
        return running

    def _take(self, number: int, ranks: Ranks | None) -> None:
        """An answer, in the router's thread."""
        self._answers.append((number, ranks))
        if not self._awake:
            self._awake = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the worker has ended
                self._answers.clear()

    def _deliver(self) -> None:
        self._awake = False
        self._stuck = False
        answers = self._answers
        while answers:
            number, ranks = answers.popleft()
            asked = self._open.pop(number, None)
            if asked is not None:
                asked[0](ranks)

    def _look(self) -> None:
        """Whether the oldest question has waited too long: then nobody else is kept waiting."""
        self._watch = None
        if not self._open:
            return
        _, asked_at = next(iter(self._open.values()))
        left = asked_at + self._patience_s - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self._stuck = True
            self._give_up()

    def _give_up(self) -> None:
        asked, self._open = self._open, {}
        for answer, _ in asked.values():
            answer(None)


def _pending(header: session_pb2.CallHeader) -> PendingRequest:
    return PendingRequest(
        metadata=RequestMetadata(
            request_id=header.request_id,
            internal_request_id=header.request_id,
            call_method=header.method or "__call__",
            route=header.route,
            app_name=header.application,
            multiplexed_model_id=header.multiplexed_model_id,
            session_id=header.session_id,
            is_streaming=header.stream,
            is_http_request=header.request_serialization == _HTTP,
        ),
        created_at=time.time(),
    )
