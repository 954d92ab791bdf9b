"""The typed services that an instance was started with, kept beside its controller's socket for those who deploy to it.

Ray Serve's ``grpc_servicer_functions`` belong to the instance: an application whose ingress deployment has methods of
such a service serves it. Which do is known where the code is, so whoever deploys asks here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fairlead.serve.grpc_services import describe_sources
from fairlead.serve.service_sources import Source
from fairlead.v1 import control_pb2

_FILE = "grpc_services.binpb"


def keep(directory: Path, sources: Iterable[Source]) -> None:
    """Notes the services for the instance whose sockets are in this directory. Raises as ``describe_sources``."""
    interface = describe_sources(sources)
    if interface.typed_services:
        (directory / _FILE).write_bytes(interface.SerializeToString())
    else:
        (directory / _FILE).unlink(missing_ok=True)


def kept(address: str) -> control_pb2.DeploymentInterface:
    """The services of the instance whose controller has this address; empty: none, or not on this machine."""
    if not address.startswith("unix:"):
        return control_pb2.DeploymentInterface()
    try:
        data = (Path(address.removeprefix("unix:")).parent / _FILE).read_bytes()
    except OSError:
        return control_pb2.DeploymentInterface()
    return control_pb2.DeploymentInterface.FromString(data)
