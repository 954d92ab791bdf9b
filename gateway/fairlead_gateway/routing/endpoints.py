"""Names whose calls are spread over several deployments."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from fairlead.v1 import control_pb2, session_pb2
from fairlead.wire.errors import DeploymentNotFoundError
from fairlead_gateway.routing.call import Call
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.shadowing import Shadowed
from fairlead_gateway.routing.split import Part, Split, number_of
from fairlead_gateway.routing.spread import Spread
from fairlead_gateway.routing.table import RouteTable


class Endpoint:
    """One of them."""

    def __init__(self, policy: control_pb2.TrafficPolicy, table: RouteTable, rand: Callable[[], float]) -> None:
        self.name = policy.name
        self._random = rand
        backends = _parts(policy.backends, table)
        shadows = _parts(policy.shadows, table)
        self._split = Split(backends, shadows) if any(part.share > 0 for part in backends) else None

    def __repr__(self) -> str:
        return f"<Endpoint {self.name}>"

    def choose(self, header: session_pb2.CallHeader) -> tuple[Deployment, list[Deployment]]:
        """The backend and the shadows of a call; its header names the backend then.

        Calls with one shard key, or of one session, have one backend. Raises DeploymentNotFoundError if no backend is
        there.
        """
        if self._split is None:
            raise DeploymentNotFoundError(f"None of the deployments behind endpoint '{self.name}' is there.")
        key = header.shard_key or header.session_id
        number = number_of(key) if key else self._random()
        backend = self._split.backend(number)
        header.application, header.deployment = backend.application, backend.name
        return backend, self._split.shadows(number)

    def has(self, deployment: Deployment) -> bool:
        """Whether it is one of the backends."""
        return self._split is not None and deployment in self._split.targets

    def take(self, call: Call) -> tuple[Deployment, Call]:
        """Where a call goes, and the call to use in its place."""
        backend, shadows = self.choose(call.header)
        return backend, Shadowed(call, self._elsewhere, shadows) if shadows else Spread(call, self._elsewhere)

    def _elsewhere(self, call: Call) -> Deployment | None:
        """A backend for a call that another one takes no more."""
        left = [] if self._split is None else [one for one in self._split.targets if not one.unavailable]
        return left[int(self._random() * len(left))] if left else None


class Endpoints:
    """All of them, as the table has them. Belongs to the worker's loop."""

    def __init__(self, table: RouteTable, rand: Callable[[], float] = random.random) -> None:
        self._table = table
        self._random = rand
        self.by_name: dict[tuple[str, str], Endpoint] = {}
        """By application and name, in all the spellings of a call's header."""
        table.on_change.append(self._apply)

    def __repr__(self) -> str:
        return f"<Endpoints {list(self.by_name)}>"

    def _apply(self) -> None:
        """After a change of the table."""
        table = self._table
        self.by_name = {}
        for app in table.applications.values():
            for policy in app.traffic:
                endpoint = Endpoint(policy, table, self._random)
                names = [policy.name, ""] if policy.name == app.ingress else [policy.name]
                applications = [app.name, ""] if len(table.applications) == 1 else [app.name]
                self.by_name |= {(application, name): endpoint for application in applications for name in names}


def _parts(shares: Sequence[control_pb2.TrafficShare], table: RouteTable) -> list[Part[Deployment]]:
    """Those whose deployments are there and can be called, in the order of their names; if none can, all of them.

    One that is being deleted or could not be deployed gets nothing while there is another.
    """
    parts = []
    for share in sorted(shares, key=lambda share: (share.application, share.deployment)):
        app = table.applications.get(share.application)
        deployment = None if app is None else app.deployments.get(share.deployment or app.ingress)
        if deployment is not None:
            parts.append(Part(deployment, share.share))
    return [part for part in parts if part.share > 0 and not part.target.unavailable] or parts
