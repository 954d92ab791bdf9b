"""Runs Connect's conformance suite against the HTTP port: ``make conformance``. Needs Go.

What is known to fail, and why, is in ``known_failing.txt`` and ``known_flaky.txt``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

from tests.clients.build import ROOT, ToolchainMissingError, run, tool

HERE = Path(__file__).resolve().parent
MODULE = "connectrpc.com/conformance"
FILES = [f"connectrpc/conformance/v1/{name}.proto" for name in ("service", "config", "server_compat")]


def main() -> int:
    go = tool("go")
    runner = HERE / "bin" / "connectconformance"
    run([go, "build", "-o", str(runner), f"{MODULE}/cmd/connectconformance"], HERE)
    protos = Path(run([go, "list", "-m", "-f", "{{.Dir}}", MODULE], HERE).strip()) / "proto"
    with tempfile.TemporaryDirectory() as compiled:
        includes = [f"-I{protos}", f"-I{resources.files('grpc_tools') / '_proto'}"]
        protoc = [sys.executable, "-m", "grpc_tools.protoc", *includes]
        run([*protoc, f"--python_out={compiled}", f"--grpc_python_out={compiled}", *FILES], HERE)
        flags = ["--mode", "server", "--conf", str(HERE / "features.yaml"), "--max-servers", "1"]
        known = ["--known-failing", f"@{HERE / 'known_failing.txt'}", "--known-flaky", f"@{HERE / 'known_flaky.txt'}"]
        server = [sys.executable, "-m", "tests.conformance.server", compiled]
        return subprocess.run([str(runner), *flags, *known, "--", *server], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToolchainMissingError as missing:
        sys.exit(f"the conformance suite needs Go: {missing}")
