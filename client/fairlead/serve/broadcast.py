"""Calls to all replicas of a deployment at once, and what ``DeploymentHandle.broadcast`` returns."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from fairlead.serve.call_template import CallTemplate
from fairlead.serve.caller import Call, Wire
from fairlead.serve.context import RequestContext
from fairlead.serve.response import IN_EVENT_LOOP, ResponseOfCall, decode
from fairlead.serve.validation import check_optional_number
from fairlead.serve.waiting import Waitable, in_event_loop
from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.codecs import codec_of_media_type
from fairlead.wire.errors import FairleadError, MessageTooLargeError, ReplicaUnavailableError
from fairlead.wire.messages import MessageAssembler
from fairlead.wire.outcomes import error_of
from fairlead.wire.stream import Stream, cost
from fairlead.wire.trust import Trust, check_serialization


class BroadcastCall(Call):
    """A call to all running replicas: the gateway says which they are, then what each answered."""

    __slots__ = ("_assembler", "_in_order", "answers", "decided", "replica_ids")

    def __init__(
        self, template: CallTemplate, wire: Wire, request_id: str, parent: RequestContext | None = None
    ) -> None:
        super().__init__(template, wire, request_id, parent)
        self.replica_ids: list[str] | None = None
        """The replicas that are called; None: not known yet."""
        self.answers: dict[str, serving_pb2.ReplicaResult] = {}
        """What came so far."""
        self.decided = Waitable()
        """Done when the call is, or as soon as the first failure in the replicas' order is known."""
        self._in_order = 0
        self._assembler = MessageAssembler()

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """An answer, or a piece of one."""
        if self.done:
            return
        try:
            message = self._assembler.add(stream, payload, more)
        except MessageTooLargeError as error:
            self.give_up(error)
            return
        if message is None:
            return
        if not stream.closed:
            stream.link.consumed(stream, cost(payload))
        answer = serving_pb2.BroadcastResponse.FromString(message)
        if answer.HasField("replicas"):
            self.replica_ids = list(answer.replicas.replica_ids)
        else:
            self.answers[answer.result.replica_id] = answer.result
            self._look_for_failure()

    def _may_send_again(self, stream: Stream) -> bool:
        return self.replica_ids is None and super()._may_send_again(stream)

    def _look_for_failure(self) -> None:
        ids = self.replica_ids or []
        while self._in_order < len(ids) and (answer := self.answers.get(ids[self._in_order])) is not None:
            if answer.HasField("status"):
                self._decide()
                return
            self._in_order += 1

    def _decide(self) -> None:
        self.decided.done = True
        self.decided.wake(self.wire.deliveries)

    def finish(self, error: BaseException | None = None) -> None:
        """The call is over."""
        super().finish(error)
        if not self.decided.done:
            self.decided.done = True
            if self.decided._waiters:
                self.decided.wake(self.wire.deliveries)


class DeploymentBroadcastResponse(ResponseOfCall):
    """The results of all replicas that ran when ``broadcast()`` was called. The calls were sent when this was made.

    May be used from any thread and any event loop, any number of times. The order of results is that of
    ``replica_ids`` and means nothing.
    """

    __slots__ = ("_call", "_values")

    def __init__(self, call: BroadcastCall) -> None:
        self._call: BroadcastCall = call
        self._cancelled = False
        self._values: dict[str, Any] = {}

    @property
    def replica_ids(self) -> list[str]:
        """The replicas that are called; empty as long as the gateway has not said."""
        return list(self._call.replica_ids or ())

    @property
    def skipped(self) -> list[str]:
        """The replicas, of those that have answered so far, that never saw the call: they were draining or gone."""
        return [
            replica_id
            for replica_id, answer in list(self._call.answers.items())
            if answer.HasField("status") and getattr(self._value(replica_id), "never_started", False)
        ]

    def results(self, *, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """Blocks until all replicas have answered, at most ``timeout_s`` seconds; their results.

        Raises the first failure in the replicas' order; with ``return_exceptions`` exceptions stand in the list
        instead, a TimeoutError for each replica that is late. Raises TimeoutError when the time is over,
        DeploymentUnavailableError if there is no replica, RuntimeError in an event loop, ValueError for a negative
        time.
        """
        waitable = self._prepare(timeout_s, return_exceptions, blocking=True)
        waitable.wait_blocking(timeout_s)
        return list(self._collect(timeout_s, return_exceptions).values())

    async def results_async(self, *, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """As ``results``, awaited."""
        waitable = self._prepare(timeout_s, return_exceptions, blocking=False)
        await _wait(waitable, timeout_s)
        return list(self._collect(timeout_s, return_exceptions).values())

    def results_by_replica(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Blocks as ``results``; by replica id the result, or the exception: TimeoutError for one that is late."""
        self._prepare(timeout_s, True, blocking=True).wait_blocking(timeout_s)
        return self._collect(timeout_s, True)

    async def results_by_replica_async(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """As ``results_by_replica``, awaited."""
        await _wait(self._prepare(timeout_s, True, blocking=False), timeout_s)
        return self._collect(timeout_s, True)

    def __await__(self) -> Generator[Any, None, list[Any]]:
        """As ``results_async()``."""
        return self.results_async().__await__()

    def _prepare(self, timeout_s: float | None, return_exceptions: bool, *, blocking: bool) -> Waitable:
        check_optional_number("timeout_s", timeout_s, at_least=0)
        if blocking and in_event_loop():
            raise RuntimeError(IN_EVENT_LOOP.format("await response"))
        return self._call if return_exceptions else self._call.decided

    def _collect(self, timeout_s: float | None, return_exceptions: bool) -> dict[str, Any]:
        call = self._call
        failure = call.failure() if call.done else None
        ids = call.replica_ids
        if failure is not None and (ids is None or call.cancelled):
            raise failure
        if ids is None:
            raise TimeoutError(f"the gateway has not answered within {timeout_s} s")
        collected = {}
        for replica_id in ids:
            value = self._value(replica_id)
            if value is _MISSING:
                value = self._missing(replica_id, failure, timeout_s)
            if isinstance(value, BaseException) and not return_exceptions and self._failed(replica_id):
                raise value
            collected[replica_id] = value
        return collected

    def _failed(self, replica_id: str) -> bool:
        """Whether an exception is why the replica failed, rather than what it returned."""
        answer = self._call.answers.get(replica_id)
        return answer is None or answer.HasField("status")

    def _missing(self, replica_id: str, failure: BaseException | None, timeout_s: float | None) -> BaseException:
        if not self._call.done:
            return TimeoutError(f"replica {replica_id} has not answered within {timeout_s} s")
        return failure or ReplicaUnavailableError(f"replica {replica_id} was lost before it answered")

    def _value(self, replica_id: str) -> Any:
        """What a replica returned, or the exception that it raised; ``_MISSING``: nothing came yet."""
        if replica_id not in self._values:
            answer = self._call.answers.get(replica_id)
            if answer is None:
                return _MISSING
            self._values[replica_id] = _read(answer, self._call.trusted)
        return self._values[replica_id]


_MISSING: Any = object()


def _read(answer: serving_pb2.ReplicaResult, trusted: bool) -> Any:
    if answer.HasField("status"):
        outcome = session_pb2.Outcome(status=answer.status, exception=answer.exception, traceback=answer.traceback)
        return error_of(outcome, trusted=trusted)
    try:
        codec = codec_of_media_type(answer.payload.content_type)
        if not trusted:
            check_serialization(codec.serialization, Trust.UNTRUSTED)
        return decode(codec, answer.payload.data)
    except FairleadError as error:
        return error


async def _wait(waitable: Waitable, timeout_s: float | None) -> None:
    try:
        await asyncio.wait_for(waitable.wait(), timeout_s)
    except TimeoutError:
        return
