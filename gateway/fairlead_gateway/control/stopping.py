"""How a replica ends: out of the snapshot, then drained, then gone, or killed when it takes too long. Pure."""

from __future__ import annotations

from fairlead_gateway.control.actions import DrainReplica, KillReplica
from fairlead_gateway.control.observed import ObservedState, Phase, Replica, Stop

EXIT_GRACE_S = 2.0
"""A replica that has drained or failed has that long to end by itself."""
ACKNOWLEDGEMENT_S = 5.0
"""A gateway worker that does not apply a snapshot holds up a drain for no longer than this."""


def begin_stop(replica: Replica, now: float, reason: str, timeout: float | None = None) -> None:
    """Has a replica end within ``timeout`` seconds; None: what its settings allow it, nothing if it does not serve yet.

    Nothing happens if its end has begun already.
    """
    if replica.phase is Phase.STOPPING:
        return
    if timeout is None:
        timeout = replica.settings.graceful_shutdown_timeout_s if replica.phase is Phase.RUNNING else 0.0
    replica.phase = Phase.STOPPING
    replica.stop = Stop(since=now, deadline=now + timeout, reason=reason)


def note_drained(stop: Stop, now: float) -> None:
    """The replica has finished its calls."""
    stop.drained = True
    stop.deadline = min(stop.deadline, now + EXIT_GRACE_S)


def advance_stop(
    replica: Replica, stop: Stop, now: float, version: int, observed: ObservedState
) -> tuple[DrainReplica | KillReplica | None, float | None]:
    """The next step of a replica's end, and when to look again; None: nothing, no need.

    ``version`` is that of the last snapshot, which no longer has the replica. The order to drain waits until every
    gateway worker routes by it, so that no call finds the replica draining.
    """
    if stop.killed:
        return None, None
    if stop.version is None:
        stop.version = version
    if now >= stop.deadline or not (replica.leased or stop.drain_sent):
        stop.killed = True
        return KillReplica(replica_id=replica.replica_id, reason=stop.reason), None
    if stop.drain_sent:
        return None, stop.deadline
    patience = stop.since + min(ACKNOWLEDGEMENT_S, (stop.deadline - stop.since) / 2)
    if now < patience and not observed.applied_by_all(stop.version):
        return None, patience
    stop.drain_sent = True
    return DrainReplica(replica_id=replica.replica_id, timeout_s=stop.deadline - now), stop.deadline
