"""How an endpoint's calls are spread over deployments, from a program."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.serve.instance_in_use import existing_instance
from fairlead.serve.validation import check_number, suggestion
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError


def set_traffic(
    application: str,
    backends: Mapping[str, float],
    *,
    shadows: Mapping[str, float] | None = None,
    endpoint: str | None = None,
) -> None:
    """Spreads calls to an endpoint of an application, in the place of what was said before; returns when that counts.

    ``backends``: shares between 0 and 1 that sum up to 1, by target: a deployment of the application, another
    application, or "application/deployment". Empty: calls are not spread any more. ``shadows``: who gets copies of
    which part of the calls. ``endpoint``: the name that is called; None: the application's ingress deployment.

    Raises FairleadError for applications and deployments that there are not, and for shares that make no sense.
    """
    instance = existing_instance()
    known = {one.name: one for one in instance.status().applications}
    if application not in known:
        raise FairleadError(f"there is no application '{application}'; {suggestion(application, known)}")
    policy = control_pb2.TrafficPolicy(
        name=endpoint or known[application].ingress_deployment,
        backends=[share_of(target, share, application, known) for target, share in backends.items()],
        shadows=[share_of(target, share, application, known) for target, share in (shadows or {}).items()],
    )
    instance.set_traffic(application, policy)


def share_of(
    target: str, share: float, application: str, known: Mapping[str, control_pb2.ApplicationStatus]
) -> control_pb2.TrafficShare:
    """A target's share; ``known``: all applications by name. Raises FairleadError, TypeError or ValueError."""
    check_number(f"the share of {target!r}", share, at_least=0)
    found = control_pb2.TrafficShare(application=application, share=share)
    other, slash, deployment = target.rpartition("/")
    names = [one.name for one in known[application].deployments]
    if slash:
        found.application, found.deployment = other, deployment
    elif target in names:
        found.deployment = target
    elif target in known:
        found.application = target
    else:
        raise FairleadError(
            f"'{target}' is neither a deployment of '{application}' nor an application; "
            f"{suggestion(target, {*names, *known})}"
        )
    return found
