"""What is said of a call whose deadline has passed."""

from __future__ import annotations

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.deadlines import callee_of, deadline_passed


@pytest.mark.parametrize(
    ("named", "given", "callee"),
    [
        ({"application": "app", "deployment": "Echo", "method": "greet"}, (), "app#Echo.greet"),
        ({"application": "app", "deployment": "Echo"}, ("other", "Other"), "app#Echo.__call__"),
        ({}, ("app", "Echo"), "app#Echo.__call__"),
        ({"deployment": "Echo"}, (), "Echo.__call__"),
        ({"application": "app"}, (), "app.__call__"),
        ({}, (), "the ingress deployment.__call__"),
    ],
)
def test_a_callee_is_named_as_far_as_it_is_known(named: dict[str, str], given: tuple[str, ...], callee: str):
    assert callee_of(session_pb2.CallHeader(**named), *given) == callee


@pytest.mark.parametrize(
    ("after_s", "after"),
    [
        (0.0, ""),
        (0.05, ", after 0.05 s"),
        (1.23456, ", after 1.23 s"),
        (99.96, ", after 100 s"),
        (12345.6, ", after 12346 s"),
    ],
)
def test_the_time_is_told_where_it_is_known(after_s: float, after: str):
    error = deadline_passed("app#Echo.greet", "while it was running", after_s)
    assert error.message == f"the deadline of the call to app#Echo.greet passed while it was running{after}"
