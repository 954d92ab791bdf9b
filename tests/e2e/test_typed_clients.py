"""Programs in Go and Java call the digits example by stubs of the service that its type hints describe.

They are built of what ``fairlead build --proto`` writes, and nothing else. Without a toolchain the tests skip; where
CI=true they fail.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from examples.digits.app import app
from fairlead import serve
from fairlead.serve.api import instance_status
from tests.clients import build

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]  # a first build fetches and compiles libraries

CLIENT_TIMEOUT_S = 60
SEVEN = build.ROOT / "examples" / "digits" / "seven.json"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the gRPC port of an instance that serves the example."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path_factory.mktemp("s")))
        serve.start(http_options={"port": 0}, grpc_options={"port": 0})
        try:
            serve.run(app, name="digits", route_prefix="/digits")
            (gateway,) = instance_status().gateways
            yield gateway.grpc_address
        finally:
            serve.shutdown()


@pytest.mark.parametrize("made", [build.go_digits_client, build.java_digits_client])
def test_a_generated_client_calls_every_method(made: Callable[[], list[str]], target: str, tmp_path: Path) -> None:
    try:
        client = made()
    except build.ToolchainMissingError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI tests the Go and the Java client, but {error}")
        pytest.skip(str(error))
    image = np.array(json.loads(SEVEN.read_text())["image"], np.dtype("<f4"))
    (tmp_path / "seven").write_bytes(image.tobytes())
    done = subprocess.run(
        [*client, target, str(tmp_path / "seven"), *map(str, image.shape)],
        capture_output=True,
        text=True,
        check=False,
        timeout=CLIENT_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    rows, columns = image.shape
    assert done.stdout.splitlines() == [
        "classify: 7",
        "accuracy above 0.97: true",
        *(f"classify all: {position} is 7" for position in range(3)),
        *["classify stream: 7"] * 3,
        "classify stream ends",
        f"refused with 3: image: {rows} x {columns} x 2 of float32 are {8 * rows * columns} bytes, "
        f"and there are {4 * rows * columns}",
    ]
