"""What users can import: the public names of each package are pinned, and the base client stays light.

A name that is added or taken away is a decision; it is made here, in the same change.
"""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

PUBLIC: dict[str, set[str]] = {}

HEAVY = ("pydantic", "starlette", "uvicorn", "uvloop", "typer", "rich", "yaml", "httptools", "multipart", "numpy")
"""What the extra `[serve]` brings, and what it would be a pity to import by accident."""


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) == PUBLIC[package]
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", ["fairlead", "fairlead.serve", "fairlead.wire.codecs", "fairlead.wire.link"])
def test_the_base_client_imports_nothing_of_what_a_gateway_needs(package: str) -> None:
    code = f"import sys, {package}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {*HEAVY, "fairlead_gateway", "fairlead_replica"} == set()
