"""A call to every running replica of a deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from google.api import httpbody_pb2

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.deadlines import callee_of, deadline_passed
from fairlead.wire.errors import (
    DeadlineExceededError,
    DeploymentUnavailableError,
    FairleadError,
    MessageTooLargeError,
    ReplicaDrainingError,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from fairlead.wire.messages import MessageAssembler
from fairlead.wire.outcomes import error_info, outcome_of
from fairlead.wire.stream import Stream
from fairlead.wire.trust import Trust
from fairlead_gateway.routing.call import Downstream
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.replica import Replica

MAX_ARGUMENTS = 256 * 1024 * 1024
"""Bytes of arguments that a broadcast may carry: they are held here until the last replica has them."""


def no_replicas(deployment: Deployment) -> DeploymentUnavailableError:
    """The error of a broadcast that nobody is there for."""
    return DeploymentUnavailableError(
        deployment.unavailable or f"deployment '{deployment.name}' has no running replicas to broadcast to"
    )


class Broadcast:
    """One call on each replica that was there when it started. Ignores the queue: replicas hold it for a slot.

    The answers are ``BroadcastResponse`` messages: the set of replicas, then each one's result as it comes. A replica
    that is lost, or late when the deadline passes, has a result that says so.
    """

    def __init__(
        self,
        header: session_pb2.CallHeader,
        downstream: Downstream,
        trust: Trust,
        media_type: str,
        deployment: Deployment,
    ) -> None:
        self.header = header
        self.downstream = downstream
        self.trust = trust
        self.media_type = media_type
        self.done = False
        self.timer: asyncio.TimerHandle | None = None
        self._deployment = deployment
        self._legs: set[_Leg] = set()
        self._parts: list[bytes] = []
        self._size = 0
        self._started = False

    def send(self, payload: bytes, *, more: bool = False, last: bool = False) -> bool:
        """Takes a piece of the arguments. After the last piece the replicas are called; there is only one message."""
        if self.done or self._started:
            return True
        self._parts.append(payload)
        self._size += len(payload)
        if self._size > MAX_ARGUMENTS:
            self._abandon(MessageTooLargeError(f"the arguments of a broadcast exceed {MAX_ARGUMENTS} bytes"))
        elif not more:
            self._start(b"".join(self._parts))
            self._parts.clear()
        return True

    def _start(self, payload: bytes) -> None:
        self._started = True
        replicas = list(self._deployment.replicas.values())
        if not replicas:  # they went while the arguments came
            self._abandon(no_replicas(self._deployment))
            return
        legs = [_Leg(self, self._deployment, replica) for replica in replicas]
        self._legs.update(legs)
        ids = serving_pb2.ReplicaSet(replica_ids=[replica.replica_id for replica in replicas])
        self.downstream.on_message(serving_pb2.BroadcastResponse(replicas=ids).SerializeToString(), False)
        header = session_pb2.CallHeader()
        header.CopyFrom(self.header)
        header.stream = False
        for leg in legs:
            leg.open(header, payload)

    def consumed(self, amount: int) -> None:
        """Results are bounded by the number of replicas: there is no credit to return."""

    def cancel(self) -> None:
        """Gives up the calls that have not ended."""
        self._abandon(RequestCancelledError())

    def _abandon(self, error: FairleadError) -> None:
        if self.done:
            return
        for leg in list(self._legs):
            leg.cancel()
        self._finish(outcome_of(error, trusted=False))

    def expire(self) -> None:
        """The deadline has passed: replicas that have not answered are reported as late."""
        if not self._started:
            self._abandon(self._late("while its arguments were coming"))
            return
        for leg in list(self._legs):
            leg.cancel()
            late = self._late(f"while it was running on {leg.replica.replica_id}")
            self.result(leg, outcome_of(late, trusted=False), None)

    def _late(self, when: str) -> DeadlineExceededError:
        callee = callee_of(self.header, self._deployment.application, self._deployment.name)
        return deadline_passed(callee, when, self.header.timeout_us * 1e-6)

    def result(self, leg: _Leg, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """One replica's result."""
        if self.done or leg not in self._legs:
            return
        self._legs.discard(leg)
        result = serving_pb2.ReplicaResult(replica_id=leg.replica.replica_id)
        if outcome is None:
            result.payload.CopyFrom(httpbody_pb2.HttpBody(content_type=self.media_type, data=payload or b""))
        else:
            result.status.CopyFrom(outcome.status)
            if self.trust.may_run_code:
                result.exception = outcome.exception
                result.traceback = outcome.traceback
        self.downstream.on_message(serving_pb2.BroadcastResponse(result=result).SerializeToString(), False)
        if not self._legs:
            self._finish(None)

    def _finish(self, outcome: session_pb2.Outcome | None) -> None:
        self.done = True
        if self.timer is not None:
            self.timer.cancel()
        self.downstream.on_end(outcome, None)


class _Leg:
    """The call on one replica (CallOwner)."""

    def __init__(self, broadcast: Broadcast, deployment: Deployment, replica: Replica) -> None:
        self.replica = replica
        self._broadcast = broadcast
        self._deployment = deployment
        self._stream: Stream | None = None
        self._assembler = MessageAssembler()

    def open(self, header: session_pb2.CallHeader, payload: bytes) -> None:
        try:
            if self.replica.link is None:
                raise _never_started(self.replica)
            self._stream = self.replica.link.open(header, payload, self)
        except FairleadError as error:
            self._broadcast.result(self, outcome_of(error, trusted=False), None)
        else:
            self.replica.take()

    def cancel(self) -> None:
        if self._stream is not None:
            self._stream.link.cancel(self._stream)

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """A piece of a large result: the end brings its last one."""
        try:
            self._assembler.add(stream, payload, True)
        except MessageTooLargeError as error:
            stream.link.cancel(stream)
            self._broadcast.result(self, outcome_of(error, trusted=False), None)

    def on_head(self, stream: Stream, metadata: Sequence[session_pb2.Metadata]) -> None:
        """Not passed on: there are as many as replicas."""

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """The replica is done."""
        self._stream = None
        if outcome is None:
            try:
                payload = self._assembler.add(stream, payload or b"", False)
            except MessageTooLargeError as error:
                outcome = outcome_of(error, trusted=False)
        elif (info := error_info(outcome.status)) is not None and info.reason == "CONNECTION_LOST":
            # Which replica it was, rather than how the gateway reaches it.
            lost = _never_started(self.replica) if stream.never_started else _lost(self.replica)
            outcome = outcome_of(lost, trusted=False)
        self._broadcast.result(self, outcome, payload)
        self._deployment.release(self.replica)

    def on_cancel(self, stream: Stream) -> None:
        """Never called: replicas do not cancel."""

    def on_writable(self, stream: Stream) -> None:
        """Nothing waits for it: a broadcast's arguments are sent at once."""


def _never_started(replica: Replica) -> ReplicaDrainingError:
    return ReplicaDrainingError(f"replica {replica.replica_id} is gone; the call did not start there")


def _lost(replica: Replica) -> ReplicaUnavailableError:
    message = f"replica {replica.replica_id} was lost while it had the call"
    return ReplicaUnavailableError(message, metadata={"replica_id": replica.replica_id})
