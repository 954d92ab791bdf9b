"""Calls that failed on a replica: whether it refused them, and what their callers are told."""

from __future__ import annotations

import grpc

from fairlead.v1 import session_pb2
from fairlead.wire.errors import ReplicaUnavailableError
from fairlead.wire.outcomes import error_info, outcome_of

_UNAVAILABLE: int = grpc.StatusCode.UNAVAILABLE.value[0]
_RESOURCE_EXHAUSTED: int = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
_REFUSALS = frozenset({"REPLICA_BUSY", "REPLICA_DRAINING", "TOO_MANY_CALLS"})


def refusal(outcome: session_pb2.Outcome) -> str:
    """Why a replica refused a call; empty: it did not refuse it."""
    if outcome.status.code not in (_UNAVAILABLE, _RESOURCE_EXHAUSTED):
        return ""
    info = error_info(outcome.status)
    return info.reason if info is not None and info.reason in _REFUSALS else ""


def explained(
    outcome: session_pb2.Outcome, replica_id: str, *, answered: bool, idempotent: bool, sent_more: bool
) -> session_pb2.Outcome:
    """What a caller is told: of a lost connection which replica it was, and why the call was not sent again.

    ``answered``: part of the answer has been sent on. ``idempotent``: the call is declared so. ``sent_more``: more of
    its arguments went out than is kept.
    """
    if outcome.status.code != _UNAVAILABLE:
        return outcome
    info = error_info(outcome.status)
    if info is None or info.reason != "CONNECTION_LOST":
        return outcome
    if answered:
        why = "part of the answer had been sent"
    elif not idempotent:
        why = "it may have started, and it is not declared idempotent"
    elif sent_more:
        why = "more of its arguments had been sent than is kept"
    else:
        why = "the retry budget is used up"
    message = f"replica {replica_id} was lost while it had the call; not sent again, because {why}"
    error = ReplicaUnavailableError(message, metadata={"replica_id": replica_id})
    return outcome_of(error, trusted=False)
