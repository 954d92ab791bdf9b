"""``fairlead traffic``: how an endpoint's calls are spread."""

from __future__ import annotations

from typing import Annotated

import typer

from fairlead.cli.finding import Address, find
from fairlead.cli.names import application_named
from fairlead.cli.output import print_json, say
from fairlead.cli.traffic_text import traffic_line, traffic_value
from fairlead.serve.instance import Instance
from fairlead.serve.traffic import share_of
from fairlead.serve.validation import suggestion
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError

_PERCENT = 100.0


def traffic(
    application: Annotated[str, typer.Argument(help="The application whose calls are spread.")],
    shares: Annotated[
        list[str] | None,
        typer.Argument(
            help="TARGET=PERCENT pairs that sum up to 100. A target is a deployment of the application, another "
            "application, or application/deployment. Without any: print how calls are spread."
        ),
    ] = None,
    shadow: Annotated[
        list[str] | None, typer.Option(help="TARGET=PERCENT: who gets copies of so many of the calls.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="The name that is called. Default: the application's ingress deployment.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Spread the calls no more.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    address: Address = None,
) -> None:
    """Spread an application's calls over several deployments: for canaries, shadows and moves without a pause."""
    instance = find(address)
    status = instance.status()
    found = application_named(application, status)
    known = {one.name: one for one in status.applications}
    if clear and (shares or shadow):
        raise FairleadError("--clear spreads calls no more: it goes without shares")
    spread = [policy.name for policy in found.traffic]
    if not (shares or shadow) and endpoint is not None and endpoint not in spread:
        raise FairleadError(f"calls to {application}/{endpoint} are not spread; {suggestion(endpoint, spread)}")
    if not (shares or shadow or clear):
        _show(found, endpoint, json)
        return
    policy = control_pb2.TrafficPolicy(
        name=endpoint or found.ingress_deployment,
        backends=[_share(one, application, known) for one in shares or ()],
        shadows=[_share(one, application, known) for one in shadow or ()],
    )
    _apply(instance, application, policy)


def _apply(instance: Instance, application: str, policy: control_pb2.TrafficPolicy) -> None:
    total = sum(one.share for one in policy.backends)
    if policy.backends and abs(total - 1) > 1e-5:
        raise FairleadError(f"the shares must sum up to 100, not {total * _PERCENT:g}")
    instance.set_traffic(application, policy)
    if policy.backends:
        say(f"calls to {application}/{policy.name} go to {traffic_line(policy)}")
    else:
        say(f"calls to {application}/{policy.name} are not spread any more")


def _share(given: str, application: str, known: dict[str, control_pb2.ApplicationStatus]) -> control_pb2.TrafficShare:
    """``TARGET=PERCENT`` as a share."""
    target, separator, number = given.rpartition("=")
    try:
        percent = float(number.removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not separator or not target or not 0 <= percent <= _PERCENT:
        raise FairleadError(f"'{given}' is not TARGET=PERCENT with a number from 0 to 100")
    return share_of(target, percent / _PERCENT, application, known)


def _show(application: control_pb2.ApplicationStatus, endpoint: str | None, json: bool) -> None:
    """Prints the policy of one endpoint; None: of all."""
    policies = [one for one in application.traffic if endpoint in (None, one.name)]
    if json:
        print_json({policy.name: traffic_value(policy) for policy in policies})
        return
    if not policies:
        typer.echo(f"{application.name}: calls are not spread")
    for policy in policies:
        typer.echo(f"{application.name}/{policy.name}: {traffic_line(policy)}")
