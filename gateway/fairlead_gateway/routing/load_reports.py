"""What a gateway worker tells the controller of its calls, for deployments whose number of replicas follows them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fairlead.v1 import control_pb2
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.table import RouteTable

PERIOD_S = 0.25
"""Seconds between two reports, of which only those go out that say something new."""


class LoadReports:
    """Counts the calls of deployments that scale by themselves. Belongs to the worker's loop."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._scaling: list[Deployment] = []
        self._urgent = asyncio.Event()
        table.on_change.append(self._find)

    def __repr__(self) -> str:
        return f"<LoadReports of {self._scaling}>"

    def loads(self) -> list[control_pb2.DeploymentLoad]:
        """The calls that there are now, deployments without any left out. Exact."""
        loads = []
        for deployment in self._scaling:
            ongoing = sum(replica.in_flight for replica in deployment.replicas.values())
            if ongoing or deployment.queued:
                loads.append(
                    control_pb2.DeploymentLoad(
                        application=deployment.application,
                        deployment=deployment.name,
                        ongoing=ongoing,
                        queued=deployment.queued,
                    )
                )
        return loads

    async def run(
        self,
        told: list[control_pb2.DeploymentLoad],
        tell: Callable[[list[control_pb2.DeploymentLoad]], Awaitable[None]],
    ) -> None:
        """Tells each change, at most one per period; at once that a deployment without replicas is called.

        ``told``: what was told last. Until cancelled, or ``tell`` raises.
        """
        while True:
            try:
                await asyncio.wait_for(self._urgent.wait(), PERIOD_S if self._scaling else None)
            except TimeoutError:
                pass
            self._urgent.clear()
            loads = self.loads()
            if loads != told:
                await tell(loads)
                told = loads

    def _find(self) -> None:
        """After a change of the table."""
        self._scaling = [
            deployment
            for application in self._table.applications.values()
            for deployment in application.deployments.values()
            if deployment.autoscaled
        ]
        for deployment in self._scaling:
            deployment.on_starved = self._urgent.set
        self._urgent.set()
