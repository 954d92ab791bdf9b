"""What a gateway worker routes: applications, their deployments and replicas, as the controller last described them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fairlead.v1 import control_pb2
from fairlead.wire.errors import ApplicationNotFoundError, DeploymentNotFoundError, GatewayDrainingError
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.replica import Replica


@dataclass(kw_only=True, slots=True)
class Application:
    """An application that is deployed."""

    name: str
    route_prefix: str | None = None
    """Where it is mounted over HTTP; None: nowhere."""
    ingress: str = ""
    """The deployment that calls without a deployment's name go to."""
    serving: bool = False
    """Whether it serves."""
    deployments: dict[str, Deployment] = field(default_factory=dict)
    traffic: list[control_pb2.TrafficPolicy] = field(default_factory=list)
    """How calls to its endpoints are spread."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """The replicas that a new description adds and takes away."""

    added: list[tuple[Deployment, Replica]]
    removed: list[tuple[Deployment, Replica]]


class RouteTable:
    """Finds the deployment that a call names. Changed by :meth:`apply` only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.applications: dict[str, Application] = {}
        self.version = 0
        self.populated = False
        """Whether the controller has described anything yet."""
        self.ending = False
        """Whether the instance is shutting down: what has gone is unavailable then, not unknown."""
        self.gateway_addresses: tuple[str, ...] = ()
        """Where all workers take sessions of the owner's programs."""
        self.on_change: list[Callable[[], None]] = []
        """Called after each change."""
        self._clock = clock
        self._found: dict[tuple[str, str], Deployment] = {}

    def find(self, application: str, deployment: str) -> Deployment:
        """The deployment of a call. Raises an error that names what there is."""
        found = self._found.get((application, deployment))
        return found if found is not None else self._search(application, deployment)

    def _search(self, application: str, deployment: str) -> Deployment:
        if self.ending and (application or not self.applications) and application not in self.applications:
            raise GatewayDrainingError("the instance is shutting down; the call did not start")
        if application:
            app = self.applications.get(application)
            if app is None:
                raise ApplicationNotFoundError(
                    f"Application '{application}' not found. {_known('applications', application, self.applications)}"
                )
        elif len(self.applications) == 1:
            app = next(iter(self.applications.values()))
        elif self.applications:
            raise ApplicationNotFoundError(
                f"Application not set, and there are several. {_known('applications', '', self.applications)}"
            )
        else:
            raise ApplicationNotFoundError("No application is deployed.")
        name = deployment or app.ingress
        found = app.deployments.get(name)
        if found is None:
            raise DeploymentNotFoundError(
                f"Deployment '{name}' not found in application '{app.name}'. "
                f"{_known('deployments', name, app.deployments)}"
            )
        self._found[application, deployment] = found
        return found

    def apply(self, snapshot: control_pb2.WatchResponse) -> Changes:
        """Takes in a description of everything. What is no longer in it is removed; its waiting calls fail."""
        changes = Changes(added=[], removed=[])
        named = {routes.name for routes in snapshot.applications}
        for name in [name for name in self.applications if name not in named]:
            self._remove(self.applications.pop(name).deployments, changes)
        for routes in snapshot.applications:
            app = self.applications.setdefault(routes.name, Application(name=routes.name))
            app.route_prefix = routes.route_prefix if routes.HasField("route_prefix") else None
            app.ingress = routes.ingress_deployment
            app.serving = routes.serving
            app.traffic = list(routes.traffic)
            kept = {deployment.name for deployment in routes.deployments}
            gone = {name: app.deployments.pop(name) for name in list(app.deployments) if name not in kept}
            self._remove(gone, changes)
            for described in routes.deployments:
                self._apply_deployment(app, described, changes)
        self._found.clear()
        self.version = snapshot.version
        self.ending = snapshot.ending
        self.gateway_addresses = tuple(snapshot.gateway_addresses)
        self.populated = True
        for listener in self.on_change:
            listener()
        return changes

    def _apply_deployment(self, app: Application, described: control_pb2.DeploymentRoutes, changes: Changes) -> None:
        deployment = app.deployments.get(described.name)
        if deployment is None:
            deployment = app.deployments[described.name] = Deployment(app.name, described.name, self._clock)
        listed = {route.replica_id: route.address for route in described.replicas}
        for known in list(deployment.replicas.values()):
            if listed.get(known.replica_id) != known.address:  # also one that is elsewhere now under the same id
                changes.removed.append((deployment, deployment.replicas.pop(known.replica_id)))
        for replica_id, address in listed.items():
            if replica_id not in deployment.replicas:
                replica = deployment.replicas[replica_id] = Replica(replica_id, address)
                changes.added.append((deployment, replica))
        deployment.configure(described)

    @staticmethod
    def _remove(deployments: dict[str, Deployment], changes: Changes) -> None:
        for deployment in deployments.values():
            changes.removed.extend((deployment, replica) for replica in deployment.replicas.values())
            deployment.delete()


def _known(what: str, name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    shown = ", ".join(repr(each) for each in known[:20]) + (", …" if len(known) > 20 else "")
    return f"Available {what}: {shown or 'none'}.{hint}"
