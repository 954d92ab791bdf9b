"""What the router can tell of its deployments at any time."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.serve.measures import COUNTER, GAUGE, Family
from fairlead_gateway.routing.table import RouteTable

_LABELS = ("application", "deployment")


def deployment_families(table: RouteTable) -> Iterable[Family]:
    """Queues, calls under way and replicas of all deployments, and the calls that were taken in since the start."""
    taken = Family("serve_num_router_requests", "Calls that came for a deployment.", COUNTER, _LABELS)
    queued = Family("serve_deployment_queued_queries", "Calls that wait for a free replica.", GAUGE, _LABELS)
    ongoing = Family("serve_num_ongoing_requests_at_replicas", "Calls that run on replicas.", GAUGE, _LABELS)
    ready = Family("serve_num_replicas", "Replicas that can be called.", GAUGE, _LABELS)
    running = Family("serve_application_running", "1 if the application serves, else 0.", GAUGE, ("application",))
    for application in table.applications.values():
        running.set(float(application.serving), application.name)
        for deployment in application.deployments.values():
            labels = (application.name, deployment.name)
            taken.set(deployment.taken, *labels)
            queued.set(deployment.queued, *labels)
            ongoing.set(sum(replica.in_flight for replica in deployment.replicas.values()), *labels)
            ready.set(len(deployment.ready), *labels)
    return taken, queued, ongoing, ready, running
