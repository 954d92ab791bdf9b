"""Names of what is deployed, as commands take them."""

from __future__ import annotations

from fairlead.serve.validation import suggestion
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError


def application_named(name: str, status: control_pb2.InstanceStatus) -> control_pb2.ApplicationStatus:
    """An application that there is. Raises FairleadError with what may have been meant."""
    known = {one.name: one for one in status.applications}
    if name not in known:
        raise FairleadError(f"there is no application '{name}'; {suggestion(name, known)}")
    return known[name]


def check_deployment(name: str, application: control_pb2.ApplicationStatus) -> None:
    """Raises FairleadError, with what may have been meant, if an application has no such deployment."""
    known = [one.name for one in application.deployments]
    if name not in known:
        raise FairleadError(f"application '{application.name}' has no deployment '{name}'; {suggestion(name, known)}")
