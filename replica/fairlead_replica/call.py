"""One call in a replica: what comes in for it, what interrupts it, and how it ends.

A call holds its slot until the user's code has really returned, and its END is sent then: a peer that counts the calls
it has open knows which slots are taken, also of calls that were cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from fairlead.serve import tracing
from fairlead.serve.context import RequestContext, set_request_context
from fairlead.serve.tracing import CallSpan
from fairlead.v1 import session_pb2
from fairlead.wire.deadlines import callee_of, deadline_passed
from fairlead.wire.errors import (
    DeadlineExceededError,
    FairleadError,
    MessageTooLargeError,
    RequestCancelledError,
    UserExceptionError,
)
from fairlead.wire.messages import MessageAssembler
from fairlead.wire.stream import Stream, cost
from fairlead_replica import http_errors
from fairlead_replica.callable import UserCallable
from fairlead_replica.measures import ReplicaMeasures
from fairlead_replica.outcomes import failure_of
from fairlead_replica.pool import Mailbox, ThreadPool
from fairlead_replica.streams import Inbound, Outbox
from fairlead_replica.tracebacks import user_traceback

logger = logging.getLogger(__name__)

_HTTP = session_pb2.SERIALIZATION_HTTP


class Host(Protocol):
    """What a call needs of the replica that runs it."""

    loop: asyncio.AbstractEventLoop
    callable: UserCallable
    mailbox: Mailbox
    pool: ThreadPool
    context: contextvars.Context
    application: str
    deployment: str
    max_message: int
    name: str
    measures: ReplicaMeasures

    def release(self, call: Call) -> None:
        """The call has ended and gives its slot back."""


class Call(ABC):
    """A call under way. It is its stream's owner; everything happens on the loop unless it says otherwise."""

    __slots__ = (
        "_answered",
        "_assembler",
        "_context",
        "_deadline",
        "_early",
        "_failure",
        "_host",
        "_inbound",
        "_interrupted",
        "_link",
        "_outbox",
        "_since",
        "_span",
        "_task",
        "_timer",
        "_waiter",
        "_whole",
        "admitted",
        "header",
        "http",
        "stream",
    )

    def __init__(self, host: Host, stream: Stream, header: session_pb2.CallHeader, *, admitted: bool = True) -> None:
        self._host = host
        self._link = stream.link
        self.stream = stream
        self.header = header
        self.http = header.request_serialization == _HTTP
        self.admitted = admitted
        self._whole: tuple[bytes, bool] | None = None
        self._assembler: MessageAssembler | None = None
        self._early: list[tuple[bytes, bool, bool]] | None = None
        self._inbound: Inbound | None = None
        self._outbox: Outbox | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._context: RequestContext | None = None
        self._answered = False
        self._interrupted: FairleadError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._since = time.perf_counter()
        self._failure = ""
        self._span: CallSpan | None = None
        if header.timeout_us:
            timeout = header.timeout_us / 1e6
            self._deadline = time.monotonic() + timeout
            self._timer = host.loop.call_later(timeout, self._expire)

    def __repr__(self) -> str:
        state = "interrupted" if self._interrupted else "running" if self._context else "waiting"
        return f"<Call {self.header.method or '__call__'!r} request_id={self.header.request_id!r} {state}>"

    # -- what comes in

    def begin(self, payload: bytes, more: bool, last: bool) -> None:
        """Takes the first message, and runs the call when it is complete."""
        if more:
            self._assembler = MessageAssembler(self._host.max_message)
            self.on_message(self.stream, payload, more, last)
        else:
            if not last:  # what follows needs the credit
                self._link.consumed(self.stream, cost(payload))
            self._received(payload, last)

    def admit(self) -> None:
        """Gives a slot to a call that waits for one."""
        self.admitted = True
        if self._whole is not None:
            whole, self._whole = self._whole, None
            self._received(*whole)
            early, self._early = self._early, None
            for piece in early or ():
                self.on_message(self.stream, *piece)

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """A message of the caller's, or a piece of one."""
        if self._inbound is not None:
            self._inbound.feed(stream, payload, more, last)
        elif self._assembler is not None and self._interrupted is None:
            try:
                message = self._assembler.add(stream, payload, more)
            except MessageTooLargeError as error:
                self._refuse(error)
                return
            if message is not None:
                if not last:
                    self._link.consumed(stream, self._assembler.owed)
                self._assembler = None
                self._received(message, last)
        elif self._whole is not None:  # items for a call that waits for a slot, as many as the credit allows
            if self._early is None:
                self._early = []
            self._early.append((payload, more, last))

    def on_head(self, stream: Stream, metadata: Sequence[session_pb2.Metadata]) -> None:  # noqa: B027 - part of CallOwner
        """Not for acceptors."""

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:  # noqa: B027 - part of CallOwner
        """Not for acceptors."""

    def on_writable(self, stream: Stream) -> None:
        """The peer has read: whoever waits may send more."""
        if self._outbox is not None:
            self._outbox.writable()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def on_cancel(self, stream: Stream) -> None:
        """The caller gave up, or is gone."""
        self._interrupt(RequestCancelledError())

    def _expire(self) -> None:
        self._interrupt(self._late("while it was running" if self._context is not None else "before it could start"))

    def _late(self, when: str) -> DeadlineExceededError:
        """What is said when the deadline has passed."""
        host, header = self._host, self.header
        callee = callee_of(header, host.application, host.deployment)
        return deadline_passed(callee, f"{when} on {host.name}", header.timeout_us * 1e-6)

    def _interrupt(self, error: FairleadError) -> None:
        """Ends the call with ``error``, as soon as the user's code has returned."""
        if self._interrupted is not None:
            return
        self._interrupted = error
        if self._context is None:  # it has not begun
            self._refuse(error)
            return
        self._context.cancel_children()
        if self._inbound is not None:
            self._inbound.finish(error)
        if self._outbox is not None:
            self._outbox.stop()
        if self._task is not None:
            self._task.cancel()

    def _received(self, payload: bytes, last: bool) -> None:
        """The first message is complete."""
        if self.admitted:
            self._start(payload, last)
        else:
            self._whole = (payload, last)

    @abstractmethod
    def _start(self, payload: bytes, last: bool) -> None:
        """Runs the user's method."""

    def _enter(self) -> None:
        """Makes the call the one that this context is about, for the user's code and the calls that it makes."""
        set_request_context(self._context)
        if "opentelemetry.trace" in sys.modules and (trace := tracing.active()) is not None:
            if self._span is None:
                self._span = CallSpan(trace, self.header, "INTERNAL", {"fairlead.replica": self._host.name})
            self._span.enter()

    # -- the end

    def _succeed(self, payload: bytes | None) -> None:
        if self._interrupted is not None:  # also if the user's code took no notice
            self._failure = type(self._interrupted).__name__
            self._link.end(self.stream, failure_of(self._interrupted))
        else:
            self._link.end(self.stream, None, payload)
        self._release()

    def _refuse(self, error: Exception) -> None:
        """Ends a call that has not begun."""
        self._failure = type(error).__name__
        self._link.end(self.stream, failure_of(error))
        self._release()

    def _fail(self, error: BaseException) -> None:
        payload = None
        self._failure = type(self._interrupted or error).__name__
        if self._interrupted is not None:
            error = self._interrupted
        elif self.http and not self._answered and not isinstance(error, FairleadError | asyncio.CancelledError):
            payload = http_errors.response_of(error)
            if payload is None:
                refusal = http_errors.unreadable(error)
                if refusal is None:
                    logger.error("request %s failed\n%s", self.header.request_id, user_traceback(error))
                error = refusal or UserExceptionError()  # the gateway answers, and says nothing of the latter
        if payload is None:
            self._link.end(self.stream, failure_of(error))
        else:
            self._link.end(self.stream, None, payload)
        self._release()

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._context is not None:
            self._context.finish()
        self._task = None
        if self._span is not None:
            self._span.end(self._failure)
        self._host.measures.ended(self.header, time.perf_counter() - self._since, self._failure)
        del self.stream  # each owns the other: without this, every call would wait for the garbage collector
        self._host.release(self)
