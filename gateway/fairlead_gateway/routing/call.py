"""A call on its way through the gateway: the one shape that every door uses.

A door makes a :class:`Downstream`, hands it to the router with the call's header and first piece, and gets a
:class:`Call` back. Everything is synchronous and happens on the worker's loop: a call costs no task and no future here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from fairlead.v1 import session_pb2
from fairlead.wire.deadlines import callee_of, deadline_passed
from fairlead.wire.errors import DeadlineExceededError, FairleadError, RequestCancelledError
from fairlead.wire.outcomes import outcome_of, without_secrets
from fairlead.wire.stream import Stream, cost
from fairlead.wire.trust import Trust
from fairlead_gateway.routing.choice import Choice
from fairlead_gateway.routing.failures import explained
from fairlead_gateway.routing.model_wish import ModelWish
from fairlead_gateway.routing.replica import Replica

MAX_KEPT = 1024 * 1024
"""Bytes of a request's further pieces that are kept, so that it can be sent again; a longer one is sent only once."""


class Downstream(Protocol):
    """The door's end of a call. Its methods are called on the worker's loop and neither block nor raise."""

    def on_message(self, payload: bytes, more: bool) -> None:
        """A message of the answer or, with ``more`` (now or the time before), a piece of one."""

    def on_head(self, metadata: Sequence[session_pb2.Metadata]) -> None:
        """What precedes the answer: at most once, and before any message. As for CallOwner, to be copied if kept."""

    def on_end(self, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """The call is over, exactly once, maybe before ``start()`` returns. ``payload``: the last message, or piece."""

    def on_writable(self) -> None:
        """The replica takes more of the request."""


class Upstream(Protocol):
    """The deployment that a call waits in or runs on, as the call sees it."""

    application: str
    name: str

    def hold(self, call: Call, amount: int) -> bool:
        """The call keeps so many bytes more of its request. False: there is no room for them."""

    def let_go(self, amount: int) -> None:
        """So many bytes of requests are not kept any more."""

    def leave(self, call: Call) -> None:
        """The call gives up its place in the queue."""

    def release(self, replica: Replica) -> None:
        """A slot of the replica is free again."""

    def model_ended(self, model: ModelWish, replica: Replica) -> None:
        """A call for a model has left a replica."""

    def retry(self, call: Call, replica: Replica, stream: Stream, outcome: session_pb2.Outcome) -> bool:
        """Sends the call to another replica, if that is allowed. Whether it did."""


class Call:
    """A call. Its life: waiting in a queue, then running on a replica, then done."""

    __slots__ = (
        "answered",
        "avoid",
        "choice",
        "deadline",
        "done",
        "downstream",
        "header",
        "kept_bytes",
        "last",
        "model",
        "more",
        "payload",
        "pieces",
        "replica",
        "sent_more",
        "stream",
        "timer",
        "trust",
        "upstream",
    )

    def __init__(
        self,
        header: session_pb2.CallHeader,
        payload: bytes,
        downstream: Downstream,
        trust: Trust,
        more: bool,
        last: bool,
    ) -> None:
        self.header = header
        self.payload = payload
        self.downstream = downstream
        self.trust = trust
        self.more = more
        self.last = last
        self.upstream: Upstream | None = None
        self.replica: Replica | None = None
        self.stream: Stream | None = None
        self.deadline = 0.0
        """On the loop's clock; 0: none."""
        self.timer: asyncio.TimerHandle | None = None
        self.done = False
        """Whether the downstream has heard the end."""
        self.answered = False
        """Whether part of an answer, be it its head, has gone downstream."""
        self.sent_more = False
        """Whether more was sent to a replica than is kept, so that it cannot be sent again."""
        self.avoid: Replica | None = None
        """The replica that the call was on before."""
        self.pieces: list[tuple[bytes, bool, bool]] | None = None
        """What followed the first piece: kept while the call waits and, if it is little, until the answer begins."""
        self.kept_bytes = 0
        self.choice: Choice | None = None
        """What the user's request router says of the call, while it waits because of that."""
        self.model: ModelWish | None = None
        """Set for a call with a model id, where replicas report their models."""

    def __repr__(self) -> str:
        state = "done" if self.done else "running" if self.stream is not None else "waiting"
        return f"<Call {self.header.request_id} {self.header.deployment}.{self.header.method} {state}>"

    # -- what a door does

    def send(self, payload: bytes, *, more: bool = False, last: bool = False) -> bool:
        """Sends a further piece of the request. False: wait for ``on_writable`` before the next."""
        if self.done:
            return True
        stream = self.stream
        if (stream is None or not (self.sent_more or self.answered)) and not self._keep(payload, more, last):
            return True  # it did not fit, and the call has ended
        if stream is None:
            return False
        sent: bool = stream.link.send(stream, payload, more=more, last=last)
        return sent

    def _keep(self, payload: bytes, more: bool, last: bool) -> bool:
        """Keeps a piece: until there is a replica, and then to be able to send it again. False: it cannot wait."""
        upstream = self.upstream
        assert upstream is not None
        waits = self.stream is None
        amount = cost(payload)
        if (waits or self.kept_bytes + amount <= MAX_KEPT) and upstream.hold(self, amount):
            self.kept_bytes += amount
            if self.pieces is None:
                self.pieces = []
            self.pieces.append((payload, more, last))
        elif waits:
            return False
        else:
            self.sent_more = True
            self._let_go()
        return True

    def _let_go(self) -> None:
        """What was kept is not needed any more."""
        self.pieces = None
        if self.upstream is not None:
            self.upstream.let_go(self.kept_bytes)
        self.kept_bytes = 0

    def cancel(self) -> None:
        """Gives the call up. The downstream hears CANCELLED at once; cancelling a call that is done has no effect."""
        if not self.done:
            self.abandon(RequestCancelledError())

    def consumed(self, amount: int) -> None:
        """Returns credit for pieces of the answer that have gone out: the sum of their costs."""
        stream = self.stream
        if stream is not None:
            stream.link.consumed(stream, amount)

    # -- what the router does

    def abandon(self, error: FairleadError) -> None:
        """Ends the call downstream with an error, and leaves or cancels it upstream."""
        if self.stream is not None:
            self.stream.link.cancel(self.stream)
        elif self.upstream is not None:
            self.upstream.leave(self)
        self.fail(error)

    def turn_away(self, error: FairleadError) -> None:
        """The deployment that it waits at has taken it out of its queue, and takes it no more."""
        self.fail(error)

    def fail(self, error: FairleadError) -> None:
        """Ends the call downstream with an error."""
        self.finish(outcome_of(error, trusted=False), None)

    def finish(self, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """Ends the call downstream."""
        self.done = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.payload = b""  # a door may hold on to the call for longer
        if self.pieces is not None:
            self._let_go()
        if outcome is not None and not self.trust.may_run_code:
            outcome = without_secrets(outcome)
        self.downstream.on_end(outcome, payload)

    def expire(self) -> None:
        """The deadline has passed."""
        if not self.done:
            self.abandon(self.late())

    def late(self) -> DeadlineExceededError:
        """What is said when the deadline has passed."""
        header, upstream, replica = self.header, self.upstream, self.replica
        callee = callee_of(header) if upstream is None else callee_of(header, upstream.application, upstream.name)
        spent_s = header.timeout_us * 1e-6  # since it came or, once it has been sent, at the replica
        if self.stream is not None and replica is not None:
            return deadline_passed(callee, f"while it was running on {replica.replica_id}", spent_s)
        sent_before = self.avoid is not None
        return deadline_passed(callee, "while it was waiting for a free replica", 0.0 if sent_before else spent_s)

    def dispatch(self, replica: Replica, clock: Callable[[], float]) -> None:
        """Sends the call to a replica. Raises DeadlineExceededError, or what ``Link.open`` raises if it cannot."""
        header = self.header
        if self.deadline:
            left = self.deadline - clock()
            if left <= 0.0:  # the loop was too busy for the timer
                raise self.late()
            header.timeout_us = max(1, int(left * 1e6))
        link = replica.link
        assert link is not None
        self.stream = stream = link.open(header, self.payload, self, more=self.more, last=self.last)
        self.replica = replica
        pieces = self.pieces
        if pieces is not None:
            writable = True
            for payload, more, last in pieces:
                writable = link.send(stream, payload, more=more, last=last)
            if self.kept_bytes > MAX_KEPT:
                self.sent_more = True
                self._let_go()
            if writable:
                self.downstream.on_writable()

    # -- what the replica's stream tells (CallOwner)

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """Passes an answer on."""
        if self.done:
            stream.link.consumed(stream, cost(payload))
        else:
            if not self.answered:
                self.answered = True
                if self.pieces is not None:
                    self._let_go()
            self.downstream.on_message(payload, more)

    def on_head(self, stream: Stream, metadata: Sequence[session_pb2.Metadata]) -> None:
        """Passes on what precedes the answer, which has begun with it: from now on the call is not sent again.

        Another replica's head could be another, and its messages would not belong to the one that callers have.
        """
        if not self.done:
            self.answered = True
            if self.pieces is not None:
                self._let_go()
            self.downstream.on_head(metadata)

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """The replica is done with the call: the downstream hears, then the slot goes to the next."""
        replica, upstream = self.replica, self.upstream
        assert replica is not None
        assert upstream is not None
        self.stream = None
        if self.model is not None:
            upstream.model_ended(self.model, replica)
        if not self.done:
            if outcome is None:
                self.finish(None, payload)
            elif not upstream.retry(self, replica, stream, outcome):
                self.finish(self._explained(outcome, replica), None)
        upstream.release(replica)

    def _explained(self, outcome: session_pb2.Outcome, replica: Replica) -> session_pb2.Outcome:
        idempotent = self.header.idempotent
        return explained(
            outcome, replica.replica_id, answered=self.answered, idempotent=idempotent, sent_more=self.sent_more
        )

    def on_cancel(self, stream: Stream) -> None:
        """Never called: replicas do not cancel."""

    def on_writable(self, stream: Stream) -> None:
        """Passes on that the replica takes more."""
        if not self.done:
            self.downstream.on_writable()
