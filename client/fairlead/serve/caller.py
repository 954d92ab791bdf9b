"""The calls that handles make: what is sent, and what becomes of it.

A call is made and waited for in any thread; everything between happens on the wire loop of its process's
:class:`~fairlead.serve.connection.Connection`.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from fairlead.serve.call_template import CallTemplate
from fairlead.serve.context import RequestContext
from fairlead.serve.deliveries import Deliveries
from fairlead.serve.tracing import carried, put
from fairlead.serve.waiting import Waitable
from fairlead.v1 import session_pb2
from fairlead.wire.deadlines import deadline_passed
from fairlead.wire.errors import (
    FairleadError,
    InternalError,
    MessageTooLargeError,
    RequestCancelledError,
)
from fairlead.wire.link import Link
from fairlead.wire.messages import WITHHELD, MessageAssembler
from fairlead.wire.outcomes import error_of
from fairlead.wire.stream import Stream
from fairlead.wire.trust import Trust, check_serialization

MAX_SENDS = 4
"""How often a call is sent at most, where it provably did not start or may be executed twice."""

DEADLINE_GRACE_S = 0.05
"""Seconds that the gateway is left to report a deadline itself, since it knows where the call got to."""


class Wire(Protocol):
    """What a call needs of its connection; all on the wire loop unless said."""

    loop: asyncio.AbstractEventLoop
    deliveries: Deliveries
    trust: Trust

    def link_for(self, call: Call) -> Link | None:
        """The link to open the call on. None: there is none yet; ``call.start()`` is called when there is."""

    def dropped(self, link: Link) -> None:
        """Says that a link takes no further calls."""

    def post(self, action: Callable[[], None]) -> None:
        """Runs an action on the wire loop, at once if this is its thread. From any thread."""

    def post_later(self, action: Callable[[], None]) -> None:
        """Runs an action on the wire loop soon. From any thread."""

    def running_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the caller runs in. From any of them."""


class Upload(Protocol):
    """Messages of the caller's that follow the arguments."""

    def flush(self) -> None:
        """The call is open: sends what waits. On the wire loop."""

    def writable(self) -> None:
        """There is credit again. On the wire loop."""

    def stop(self) -> None:
        """The call is over: nothing more is wanted. On the wire loop."""


class Call(Waitable, ABC):
    """One call, from ``remote()`` to its end. Its kinds say what to make of the answers."""

    __slots__ = (
        "_parent",
        "_sends",
        "_stream",
        "_timer",
        "cancelled",
        "deadline",
        "error",
        "outcome",
        "payload",
        "request_id",
        "route",
        "template",
        "trace",
        "trusted",
        "upload",
        "wire",
    )

    def __init__(
        self, template: CallTemplate, wire: Wire, request_id: str, parent: RequestContext | None = None
    ) -> None:
        self.done = False
        self._waiters = []
        self.template = template
        self.wire = wire
        self.request_id = request_id
        self.route = ""
        self.deadline: float | None = None
        self.trace = carried()
        """The context of the trace that it belongs to, for its metadata."""
        self.payload = b""
        self.upload: Upload | None = None
        self.cancelled = False
        self.trusted = False
        self.error: BaseException | None = None
        self.outcome: session_pb2.Outcome | None = None
        self._parent = parent
        self._stream: Stream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sends = 0
        if template.timeout_s is not None:
            self.deadline = time.monotonic() + template.timeout_s
        if parent is not None:
            self.route = parent.route
            if parent.deadline is not None and (self.deadline is None or parent.deadline < self.deadline):
                self.deadline = parent.deadline
            parent.adopt(self)

    # -- on the wire loop

    def start(self) -> None:
        """Sends the call, now or when there is a link to send it on."""
        if self.done:  # cancelled or expired meanwhile
            return
        if self.deadline is not None:
            self.arm()
        link = self.wire.link_for(self)
        if link is None:
            return
        template = self.template
        try:
            trust = self.wire.trust
            self.trusted = trust is not Trust.UNTRUSTED
            if not self.trusted:
                check_serialization(template.request_codec.serialization, trust)
                check_serialization(template.response_codec.serialization, trust)
            timeout_us = 0
            if self.deadline is not None:
                timeout_us = max(int((self.deadline - time.monotonic()) * 1e6), 1)
            header = template.stamp(self.request_id, self.route, timeout_us)
            if self.trace:
                header = put(header, self.trace)
            self._sends += 1
            self._stream = link.open(header, self.payload, self, last=self.upload is None)
        except FairleadError as error:
            if link.draining and self._sends < MAX_SENDS:
                self.wire.dropped(link)
                self.start()
            else:
                self.finish(error)
            return
        if self.upload is not None:
            self.upload.flush()

    def arm(self) -> None:
        """Sets the timer of the call's deadline."""
        if self._timer is None and self.deadline is not None and not self.done:
            left = self.deadline - time.monotonic() + DEADLINE_GRACE_S
            self._timer = self.wire.loop.call_later(max(left, 0.0), self._expire)

    def _expire(self) -> None:
        self.give_up(deadline_passed(self.template.callee, "without an answer of the gateway's"))

    def give_up(self, error: BaseException) -> None:
        """Ends the call here with an error, and tells the gateway."""
        if not self.done:
            stream = self._stream
            if stream is not None and not stream.closed:
                stream.link.cancel(stream)
            self.finish(error)

    def finish(self, error: BaseException | None = None) -> None:
        """The call is over; a second time: no effect."""
        if self.done:
            return
        if self.cancelled and not isinstance(error, RequestCancelledError):
            error = RequestCancelledError()
            self.outcome = None
        self.error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._parent is not None:
            self._parent.release(self)
        self.done = True
        self.payload = b""
        if self.upload is not None:
            self.upload.stop()
        if self._waiters:
            self.wake(self.wire.deliveries)

    @abstractmethod
    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """The link's: a message of the answer, or a piece of one."""

    def on_head(self, stream: Stream, metadata: Sequence[session_pb2.Metadata]) -> None:
        """The link's: metadata, which only typed services' methods have; handles have no use for them."""

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """The link's: the end of the call."""
        if self.done or stream is not self._stream:
            return
        if outcome is not None:
            if self._may_send_again(stream):
                self._stream = None
                self.wire.dropped(stream.link)
                self.start()
                return
            self.outcome = outcome
        elif payload is not None:
            self.on_message(stream, payload, False, True)
        self.finish()

    def _may_send_again(self, stream: Stream) -> bool:
        if self._sends >= MAX_SENDS or self.upload is not None:
            return False
        return stream.never_started or (self.template.header.idempotent and stream.link.closed)

    def on_cancel(self, stream: Stream) -> None:
        """The link's; for acceptors only."""

    def on_writable(self, stream: Stream) -> None:
        """The link's: there is credit for more of the caller's messages."""
        if self.upload is not None:
            self.upload.writable()

    def send(self, payload: bytes, *, last: bool = False) -> bool:
        """Sends a message that follows the arguments. False: wait for ``upload.writable``."""
        stream = self._stream
        assert stream is not None
        sent: bool = stream.link.send(stream, payload, last=last)
        return sent

    @property
    def opened(self) -> bool:
        """Whether the call has been sent."""
        return self._stream is not None

    # -- from any thread

    def failure(self) -> BaseException | None:
        """Why the call failed, as an exception to raise; None: it did not. Only when it is over."""
        if self.error is None and self.outcome is not None:
            self.error = error_of(self.outcome, trusted=self.trusted)
        return self.error

    def cancel(self) -> None:
        """Gives the call up: it ends with RequestCancelledError, whatever the callee does. No effect if it is over."""
        if not self.done:
            self.cancelled = True
            self.wire.post(self._cancel)

    def abandon(self) -> None:
        """As ``cancel``, for finalizers: they run in the midst of anything, the wire's own code included."""
        if not self.done:
            self.wire.post_later(self._cancel)

    def _cancel(self) -> None:
        self.give_up(RequestCancelledError())


class UnaryCall(Call):
    """A call with one result."""

    __slots__ = ("_assembler", "body")

    def __init__(
        self, template: CallTemplate, wire: Wire, request_id: str, parent: RequestContext | None = None
    ) -> None:
        super().__init__(template, wire, request_id, parent)
        self.body: bytes | None = None
        self._assembler: MessageAssembler | None = None

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """The result, or a piece of one."""
        if self.done:
            return
        if more or self._assembler is not None:
            if self._assembler is None:
                self._assembler = MessageAssembler()
            try:
                self.body = self._assembler.add(stream, payload, more)
            except MessageTooLargeError as error:
                self.give_up(error)
        else:
            self.body = payload

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """The end of the call, usually with its result."""
        if outcome is None and self._assembler is None and stream is self._stream:
            if payload is None:
                self.finish(InternalError("the call ended without a result"))
            else:
                self.body = payload
                self.finish()
        else:
            super().on_end(stream, outcome, payload)


class StreamCall(Call):
    """A call with a stream of results. One reader at a time."""

    __slots__ = ("_assembler", "_received", "_taken", "items")

    GRANT_AT = 64 * 1024
    """Bytes taken at which credit is returned: each return is a hop to the wire loop."""

    def __init__(
        self, template: CallTemplate, wire: Wire, request_id: str, parent: RequestContext | None = None
    ) -> None:
        super().__init__(template, wire, request_id, parent)
        self.items: deque[tuple[bytes, int]] = deque()
        self._assembler = MessageAssembler(withhold=WITHHELD)
        self._received = False
        self._taken = 0

    @property
    def ready(self) -> bool:
        """Whether there is an item, or there will be none."""
        return bool(self.items) or self.done

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """An item, or a piece of one."""
        if self.done:
            return
        self._received = True
        try:
            message = self._assembler.add(stream, payload, more)
        except MessageTooLargeError as error:
            self.give_up(error)
            return
        if message is not None:
            self.items.append((message, self._assembler.owed))
            if self._waiters:
                self.wake(self.wire.deliveries)

    def _may_send_again(self, stream: Stream) -> bool:
        return not self._received and super()._may_send_again(stream)

    def take(self) -> bytes | None:
        """The next item; None: there is none now. From any thread."""
        try:
            message, amount = self.items.popleft()
        except IndexError:
            return None
        self._taken += amount
        if self._taken >= self.GRANT_AT and not self.done:
            taken, self._taken = self._taken, 0
            self.wire.post(lambda: self._grant(taken))
        return message

    def _grant(self, amount: int) -> None:
        stream = self._stream
        if stream is not None and not stream.closed:
            stream.link.consumed(stream, amount)
