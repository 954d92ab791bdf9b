"""The library service of ``library.proto`` as a descriptor set, as generated modules, and as a deployed interface."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

from google.api import annotations_pb2  # noqa: F401  without it the annotations of the file stay unknown fields
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc

from fairlead.v1 import control_pb2
from fairlead_gateway.edge.typed.descriptors import pool_of

SERVICE = "library.v1.LibraryService"
ROOT = Path(__file__).resolve().parents[3]


def _includes(directory: Path) -> list[str]:
    return [
        f"-I{directory}",
        f"-I{ROOT / 'third_party' / 'googleapis'}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
    ]


def compiled(source: str, name: str = "test.proto") -> bytes:
    """The descriptor set of a .proto text and all that it imports."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / name).write_text(source)
        out = Path(directory) / "set.bin"
        arguments = ["protoc", *_includes(Path(directory)), "--include_imports", f"--descriptor_set_out={out}", name]
        assert protoc.main(arguments) == 0
        return out.read_bytes()


@functools.cache
def library_set() -> bytes:
    return compiled((Path(__file__).parent / "library.proto").read_text(), "library.proto")


@functools.cache
def library_pool() -> DescriptorPool:
    return pool_of(library_set())


def message(name: str, /, **fields):
    """A message of the library's package."""
    descriptor = library_pool().FindMessageTypeByName(f"library.v1.{name}")
    return message_factory.GetMessageClass(descriptor)(**fields)


def generate(directory: Path) -> None:
    """Writes ``library_pb2`` and ``library_pb2_grpc`` into a directory, in a process of its own."""
    source = Path(__file__).parent
    command = [sys.executable, "-m", "grpc_tools.protoc", *_includes(source)]
    subprocess.run(
        [*command, f"--python_out={directory}", f"--grpc_python_out={directory}", "library.proto"],
        check=True,
        timeout=60,
    )


def application(
    name: str = "books",
    *,
    route_prefix: str | None = "/",
    deployment: str = "Library",
    service: str = SERVICE,
    descriptor_set: bytes | None = None,
    serving: bool = True,
    **options,
) -> control_pb2.ApplicationRoutes:
    """An application whose one deployment offers the service; ``options`` are JsonOptions."""
    json = control_pb2.JsonOptions(**options) if options else None
    return control_pb2.ApplicationRoutes(
        name=name,
        route_prefix=route_prefix,
        ingress_deployment=deployment,
        serving=serving,
        deployments=[
            control_pb2.DeploymentRoutes(
                name=deployment,
                max_ongoing_requests=5,
                max_queued_requests=-1,
                replicas=[control_pb2.ReplicaRoute(replica_id=f"{name}#1", address="unix:/nowhere")],
                interface=control_pb2.DeploymentInterface(
                    typed_services=[control_pb2.TypedService(name=service, json=json)],
                    descriptor_set=library_set() if descriptor_set is None else descriptor_set,
                ),
            )
        ],
    )
