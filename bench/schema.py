"""The benchmark's typed service, compiled: modules to import and a descriptor set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROTO = Path(__file__).resolve().parent / "echo.proto"
GOOGLEAPIS = PROTO.parent.parent / "third_party" / "googleapis"
SERVICE = "bench.v1.EchoService"
DESCRIPTORS = "echo.binpb"
PATH = "/v1/rooms/lobby:echo"
BODY = '{"message": "%s", "number": "12345678901", "tags": ["first", "second"]}' % ("x" * 85)


def compile_into(folder: Path) -> None:
    """Makes ``echo_pb2.py``, ``echo_pb2_grpc.py`` and the descriptor set ``DESCRIPTORS`` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            *(f"--proto_path={PROTO.parent}", f"--proto_path={GOOGLEAPIS}"),
            *(f"--python_out={folder}", f"--grpc_python_out={folder}"),
            *("--include_imports", f"--descriptor_set_out={folder / DESCRIPTORS}"),
            PROTO.name,
        ],
        check=True,
    )
