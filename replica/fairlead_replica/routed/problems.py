"""What is wrong with a request, as its sender is told: every problem, each with its place.

A sender may make very many, and long ones: what is told of them has an end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from google.rpc import error_details_pb2

from fairlead.v1 import session_pb2
from fairlead.wire.errors import InvalidArgumentsError
from fairlead_replica.outcomes import failure_of

LISTED = 100
"""Problems that are told one by one; of more it is told how many they are."""
_LONGEST = 500
"""Characters of a place or a description that are told."""


class Problem(NamedTuple):
    """One problem."""

    field: str
    """Where it is: ``path.user_id``, ``query.limit``, ``body.items[2].name``, or a whole part of the request."""
    description: str


class BadRequestError(InvalidArgumentsError):
    """The request does not fit the method's parameters."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        first = "; ".join(f"{_short(field)}: {_short(description)}" for field, description in self.problems[:3])
        more = f"; and {len(self.problems) - 3} more" if len(self.problems) > 3 else ""
        super().__init__(f"the request does not fit the method: {first}{more}")

    def outcome(self) -> session_pb2.Outcome:
        """The error as it travels: with a ``google.rpc.BadRequest`` that lists the problems."""
        outcome = failure_of(self)
        problems, more = self.problems[:LISTED], len(self.problems) - LISTED
        if more > 0:
            problems += (Problem("", f"and {more} more"),)
        violations = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=_text(field), description=_text(description))
                for field, description in problems
            ]
        )
        outcome.status.details.add().Pack(violations)
        return outcome


def place(start: str, steps: Sequence[int | str]) -> str:
    """A place within a part of the request: ``place("body", ("items", 2))`` is ``body.items[2]``."""
    return start + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _text(text: str) -> str:
    """Without lone surrogates, which no protobuf string may hold."""
    return _short(text).encode("utf-8", "replace").decode()


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
