"""What is said of a call whose deadline has passed: the same by handles, gateways and replicas."""

from __future__ import annotations

from fairlead.v1 import session_pb2
from fairlead.wire.errors import DeadlineExceededError


def callee_of(header: session_pb2.CallHeader, application: str = "", deployment: str = "") -> str:
    """Who a call is for, in messages: ``app#Deployment.method``. What the header leaves out may be given."""
    places = (header.application or application, header.deployment or deployment)
    return f"{'#'.join(filter(None, places)) or 'the ingress deployment'}.{header.method or '__call__'}"


def deadline_passed(callee: str, when: str, after_s: float = 0.0) -> DeadlineExceededError:
    """The error. ``when``: how far the call had come, "while it …". ``after_s``: the seconds so far; 0: not known."""
    after = f", after {after_s:.3g} s" if 0 < after_s < 100 else f", after {after_s:.0f} s" if after_s else ""
    return DeadlineExceededError(f"the deadline of the call to {callee} passed {when}{after}")
