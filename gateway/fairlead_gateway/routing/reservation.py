"""Slots of replicas that callers hold before they have something to run in them.

A reservation is a call that is admitted and queued like any other, but stays in the gateway: it takes a slot, says
where, and holds it. The call that uses it gets the slot as it is; it neither queues nor goes anywhere else.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from fairlead.v1 import session_pb2
from fairlead.wire.errors import (
    FairleadError,
    GatewayDrainingError,
    ReplicaUnavailableError,
    ReservationNotFoundError,
)
from fairlead.wire.outcomes import error_info, outcome_of
from fairlead.wire.stream import Stream
from fairlead.wire.trust import Trust
from fairlead_gateway.routing.call import Call, Downstream, Upstream
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.replica import Replica


class Reservations:
    """The reservations of a gateway worker, by their secret ids. Belongs to the worker's loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._calls: dict[str, Reservation] = {}

    def __repr__(self) -> str:
        held = sum(call.replica is not None for call in self._calls.values())
        return f"<Reservations held={held} waiting={len(self._calls) - held}>"

    def reserve(self, header: session_pb2.CallHeader, downstream: Downstream, trust: Trust) -> Reservation:
        """A call that reserves a slot of the deployment that it is then admitted to."""
        reservation_id = secrets.token_urlsafe(16)
        call = self._calls[reservation_id] = Reservation(header, downstream, trust, reservation_id, self._calls)
        return call

    def use(self, call: ReservedCall, deployment: Deployment) -> None:
        """Runs a call in the slot that it names, or ends it with an error. Either way the reservation is used up."""
        held = self._calls.get(call.header.reservation_id)
        if held is None or held.replica is None or held.upstream is not deployment:
            where = f"deployment '{deployment.name}' has no such reservation"
            call.fail(ReservationNotFoundError(f"{where}: it was used, or it has ended"))
            return
        replica = held.replica
        held.finish(None, None)
        replica.reserved -= 1
        call.upstream = deployment
        try:
            if replica.link is None or deployment.replicas.get(replica.replica_id) is not replica:
                raise GatewayDrainingError("it is not in service any more")
            call.dispatch(replica, self._clock)
        except FairleadError as error:
            call.fail(_lost(replica, error.message) if isinstance(error, GatewayDrainingError) else error)
            deployment.release(replica)

    def deployment(self, reservation_id: str) -> Upstream | None:
        """Where a slot is reserved; None: there is no such reservation."""
        held = self._calls.get(reservation_id)
        return None if held is None else held.upstream

    def end(self) -> None:
        """Ends all of them: the gateway is draining, and no session will carry a call that could use them."""
        for call in list(self._calls.values()):
            if not call.done:
                call.abandon(GatewayDrainingError("the gateway is draining; the reservation has ended"))


class Reservation(Call):
    """A call that takes a slot and holds it. ``replica`` is set as soon as it does; there never is a stream."""

    __slots__ = ("_others", "reservation_id")

    def __init__(
        self,
        header: session_pb2.CallHeader,
        downstream: Downstream,
        trust: Trust,
        reservation_id: str,
        others: dict[str, Reservation],
    ) -> None:
        super().__init__(header, b"", downstream, trust, False, True)
        self.reservation_id = reservation_id
        self._others = others

    def __repr__(self) -> str:
        state = "done" if self.done else "waiting" if self.replica is None else f"holds {self.replica.replica_id}"
        return f"<Reservation {self.header.request_id} {self.header.deployment} {state}>"

    def send(self, payload: bytes, *, more: bool = False, last: bool = False) -> bool:
        """Drops it: there is nobody to send arguments to."""
        return True

    def dispatch(self, replica: Replica, clock: Callable[[], float]) -> None:
        """Takes the slot, which the deployment counts, and says so. From now on no deadline runs."""
        if self.deadline and self.deadline <= clock():
            raise self.late()
        if replica.link is None or replica.link.draining:
            raise GatewayDrainingError(f"replica {replica.replica_id} takes no calls")
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.replica = replica
        replica.reserved += 1
        selection = session_pb2.ReplicaSelection(replica_id=replica.replica_id, reservation_id=self.reservation_id)
        if self.trust.may_run_code:
            selection.address = replica.address
        self.downstream.on_message(selection.SerializeToString(), False)

    def abandon(self, error: FairleadError) -> None:
        """Leaves the queue, or gives the slot back."""
        replica, upstream = self.replica, self.upstream
        if replica is None or upstream is None:
            super().abandon(error)
            return
        self.fail(error)
        replica.reserved -= 1
        upstream.release(replica)

    def finish(self, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """It is over: its id means nothing any more."""
        self._others.pop(self.reservation_id, None)
        super().finish(outcome, payload)


class ReservedCall(Call):
    """A call in a slot that was reserved: it runs on that replica or nowhere."""

    __slots__ = ()

    def __init__(
        self,
        header: session_pb2.CallHeader,
        payload: bytes,
        downstream: Downstream,
        trust: Trust,
        more: bool,
        last: bool,
    ) -> None:
        super().__init__(header, payload, downstream, trust, more, last)
        self.sent_more = True  # nothing of it is kept: it is never sent again

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        """The replica is done with the call; a failure is not tried elsewhere."""
        replica, upstream = self.replica, self.upstream
        if self.done or outcome is None or replica is None or upstream is None:
            super().on_end(stream, outcome, payload)
            return
        self.stream = None
        info = error_info(outcome.status)
        if stream.never_started or (info is not None and info.reason == "REPLICA_DRAINING"):
            outcome = outcome_of(_lost(replica, "the call did not start"), trusted=False)
        elif stream.link.closed:
            outcome = outcome_of(_lost(replica, "it was lost while it had the call"), trusted=False)
        self.finish(outcome, None)
        upstream.release(replica)


def _lost(replica: Replica, why: str) -> ReplicaUnavailableError:
    return ReplicaUnavailableError(
        f"replica {replica.replica_id}, of which a slot was reserved, is gone: {why}",
        metadata={"replica_id": replica.replica_id},
    )
