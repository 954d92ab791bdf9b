"""The state of an instance, in words and as JSON."""

from __future__ import annotations

import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from fairlead.cli.traffic_text import traffic_line, traffic_value
from fairlead.serve.status import application_status, deployment_status, target_capacity
from fairlead.v1 import control_pb2
from fairlead.wire.credentials import TLS_SCHEME

_STYLES = {"RUNNING": "green", "HEALTHY": "green", "UNHEALTHY": "red", "DEPLOY_FAILED": "red"}


def http_url(gateway: control_pb2.GatewayStatus) -> str:
    """Of its HTTP port, without a slash at the end; empty: it has none."""
    return f"{'https' if gateway.http_tls else 'http'}://{gateway.http_address}" if gateway.http_address else ""


def grpc_target(gateway: control_pb2.GatewayStatus) -> str:
    """Its gRPC port, as ``FAIRLEAD_ADDRESS`` names it; empty: it has none."""
    return f"{TLS_SCHEME if gateway.grpc_tls else ''}{gateway.grpc_address}" if gateway.grpc_address else ""


def where_lines(status: control_pb2.InstanceStatus) -> list[str]:
    """Where an instance can be called."""
    lines = []
    for gateway in status.gateways[:1]:
        if url := http_url(gateway):
            lines.append(f"HTTP  {url}/  (routes: /-/routes, health: /-/healthz)")
        if target := grpc_target(gateway):
            lines.append(f"gRPC  {target}  (reflection is on)")
    return lines


def status_value(status: control_pb2.InstanceStatus) -> dict[str, Any]:
    """The state of an instance for JSON."""
    return {
        "controller": {
            "pid": status.controller.pid,
            "version": status.controller.version,
            "standing": status.controller.standing,
            "started_time_s": status.controller.started_time_s,
        },
        "gateways": [
            {
                "id": gateway.gateway_id,
                "pid": gateway.pid,
                "ready": gateway.ready,
                "http": gateway.http_address or None,
                "grpc": gateway.grpc_address or None,
                "http_tls": gateway.http_tls,
                "grpc_tls": gateway.grpc_tls,
            }
            for gateway in status.gateways
        ],
        "target_capacity": target_capacity(status),
        "applications": {application.name: _application_value(application) for application in status.applications},
    }


def _application_value(application: control_pb2.ApplicationStatus) -> dict[str, Any]:
    return {
        "status": application_status(application.state).value,
        "message": application.message,
        "last_deployed_time_s": application.last_deployed_time_s,
        "route_prefix": application.route_prefix if application.HasField("route_prefix") else None,
        "ingress": application.ingress_deployment,
        "traffic": {policy.name: traffic_value(policy) for policy in application.traffic},
        "deployments": {
            deployment.name: {
                "status": deployment_status(deployment.state).value,
                "message": deployment.message,
                "target_replicas": deployment.target_replicas,
                "replicas": [
                    {"id": replica.replica_id, "state": _replica_state(replica), "pid": replica.pid}
                    for replica in deployment.replicas
                ],
            }
            for deployment in application.deployments
        },
    }


def is_well(status: control_pb2.InstanceStatus) -> bool:
    """Whether all applications serve as they shall."""
    return all(one.state == control_pb2.APPLICATION_STATE_RUNNING for one in status.applications)


def print_status(status: control_pb2.InstanceStatus, console: Console) -> None:
    """The state of an instance for people."""
    for gateway in status.gateways:
        where = "  ".join(part for part in (http_url(gateway), grpc_target(gateway)) if part)
        state = "ready" if gateway.ready else "starting"
        console.print(Text(f"{gateway.gateway_id}  process {gateway.pid}  {state}  {where}"))
    if not status.applications:
        console.print("no application is deployed")
        return
    rows = [("APPLICATION", "STATUS", "ROUTE", "DEPLOYMENT", "STATUS", "REPLICAS")]
    for application in status.applications:
        rows += _rows(application)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line = Text()
        for cell, width in zip(row, widths, strict=True):
            line.append(cell.ljust(width) + "  ", style=_STYLES.get(cell, ""))
        line.rstrip()
        console.print(line, soft_wrap=True)
    if (capacity := target_capacity(status)) is not None:
        console.print(f"target capacity {capacity:g} %")
    for application in status.applications:
        for policy in application.traffic:
            spread = f"calls to {application.name}/{policy.name} go to {traffic_line(policy)}"
            console.print(Text(spread), soft_wrap=True)
    for application in status.applications:
        if application.message:
            console.print(Text(f"\n{application.name}: {application.message}", style="red"), soft_wrap=True)


def _rows(application: control_pb2.ApplicationStatus) -> list[tuple[str, str, str, str, str, str]]:
    """A line for each deployment, the application's own columns in the first one only."""
    route = application.route_prefix if application.HasField("route_prefix") else "–"
    own = (application.name, application_status(application.state).value, route)
    rows = []
    for deployment in application.deployments:
        running = sum(replica.state == control_pb2.REPLICA_STATE_RUNNING for replica in deployment.replicas)
        state = deployment_status(deployment.state).value
        rows.append((*own, deployment.name, state, f"{running}/{deployment.target_replicas}"))
        own = ("", "", "")
    return rows


def _replica_state(replica: control_pb2.ReplicaStatus) -> str:
    return control_pb2.ReplicaState.Name(replica.state).removeprefix("REPLICA_STATE_")


def time_of_day() -> str:
    """For lines that come over time."""
    return datetime.datetime.now().strftime("%H:%M:%S")
