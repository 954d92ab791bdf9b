"""Traffic policies as users give them: checked, and complete. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from fairlead.v1 import control_pb2
from fairlead.wire.errors import InvalidCallError

TOLERANCE = 1e-5
"""How far shares may miss a sum of 1."""


def checked_policy(
    application: str, policy: control_pb2.TrafficPolicy, applications: Mapping[str, Collection[str]]
) -> control_pb2.TrafficPolicy:
    """The policy with every application filled in. ``applications``: the names of deployments by application.

    Raises InvalidCallError that says what is wrong with it.
    """
    where = f"traffic of endpoint {policy.name!r} in application {application!r}"
    if application not in applications:
        raise InvalidCallError(f"{where}: there is no such application; there are {_listed(applications)}")
    if not policy.name:
        raise InvalidCallError(f"{where}: the endpoint needs a name")
    complete = control_pb2.TrafficPolicy(
        name=policy.name,
        backends=[_share(one, application, where, applications) for one in policy.backends],
        shadows=[_share(one, application, where, applications) for one in policy.shadows],
    )
    for shares, what in ((complete.backends, "backends"), (complete.shadows, "shadows")):
        names = [(one.application, one.deployment) for one in shares]
        if len(set(names)) != len(names):
            raise InvalidCallError(f"{where}: the {what} must differ")
    total = math.fsum(one.share for one in complete.backends)
    if complete.backends and abs(total - 1) > TOLERANCE:
        raise InvalidCallError(f"{where}: the shares of its backends must sum up to 1, not {total:g}")
    if complete.shadows and not complete.backends:
        raise InvalidCallError(f"{where}: shadows need backends beside them")
    return complete


def _share(
    share: control_pb2.TrafficShare, application: str, where: str, applications: Mapping[str, Collection[str]]
) -> control_pb2.TrafficShare:
    name = share.application or application
    if name not in applications:
        raise InvalidCallError(f"{where}: there is no application {name!r}; there are {_listed(applications)}")
    if share.deployment and share.deployment not in applications[name]:
        raise InvalidCallError(
            f"{where}: application {name!r} has no deployment {share.deployment!r}; it has "
            f"{_listed(applications[name])}"
        )
    if not 0 <= share.share <= 1:
        raise InvalidCallError(
            f"{where}: the share of {share.deployment or name!r} must be between 0 and 1, not {share.share:g}"
        )
    return control_pb2.TrafficShare(application=name, deployment=share.deployment, share=share.share)


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "none"
