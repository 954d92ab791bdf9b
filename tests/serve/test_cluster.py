"""What scripts for Ray do about their cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fairlead as ray
from fairlead.serve.response import DeploymentResponse

SCRIPT = """
import fairlead as ray
from fairlead import serve

ray.init(address="auto", num_cpus=4)
assert not ray.is_initialized()
serve.start(proxy_location="Disabled")
assert ray.is_initialized()
reference = serve.run(serve.deployment(lambda: 5).bind()).remote()
assert isinstance(reference, ray.ObjectRef)
print(ray.get(reference))
ray.shutdown()
assert not ray.is_initialized()
ray.shutdown()
"""


def test_a_script_for_ray_runs_as_it_is(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "FAIRLEAD_STATE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5\n"


def test_a_reference_is_a_response() -> None:
    assert ray.ObjectRef is DeploymentResponse
