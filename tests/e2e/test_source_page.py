"""The sample of the DeploymentHandle page as it is printed, but for the two imports, wherever users put their code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.printed import without_progress

IMPORTS = """\
import fairlead as ray
from fairlead import serve
from fairlead.serve.handle import DeploymentHandle, DeploymentResponse
"""

CLASSES = """\
@serve.deployment
class Downstream:
    def say_hi(self, message: str):
        return f"Hello {message}!"
        self._message = message

@serve.deployment
class Ingress:
    def __init__(self, handle: DeploymentHandle):
        self._downstream_handle = handle

    async def __call__(self, name: str) -> str:
        response = self._downstream_handle.say_hi.remote(name)
        return await response

app = Ingress.bind(Downstream.bind())
"""

CALLS = """\
handle: DeploymentHandle = serve.run(app)
response = handle.remote("world")
assert response.result() == "Hello world!"
"""

ON_ANY_PORT = 'from fairlead import serve\nserve.start(http_options={"port": 0}, grpc_options={"port": 0})\n'
"""Before the sample, because the default ports may be taken where tests run."""

MORE_OF_THE_PAGE = """
import asyncio

@serve.deployment
class MyDeployment:
    def __init__(self):
        self.value = 0

    def other_method(self):
        return serve.get_multiplexed_model_id()

    def __call__(self, x=1):
        return x + 1

    def update_config(self, new_value):
        self.value = new_value
        return self.value

    def reset_cache(self):
        self.value = 0

serve.run(MyDeployment.options(num_replicas=2).bind(), name="app", route_prefix="/app")
handle = handle1 = handle2 = serve.get_deployment_handle("MyDeployment", "app")

response: DeploymentResponse = handle.options(
    method_name="other_method",
    multiplexed_model_id="model:v1",
).remote()
assert response.result() == "model:v1"

async def main():
    # Fetch the result directly.
    response = handle.remote()
    result = await response
    assert result == 2

    # Pass the result to another handle call.
    composed_response = handle2.remote(handle1.remote())
    composed_result = await composed_response
    assert composed_result == 3

asyncio.run(main())

# Call reset_cache on every replica and collect results.
response = handle.broadcast("reset_cache")
results = response.results()
assert results == [None, None]

# Pass arguments to the broadcast call.
response = handle.broadcast("update_config", new_value=42)
results = response.results()
assert results == [42, 42]
"""


@pytest.fixture
def environment(state_directory: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def run(command: list[str], environment: dict[str, str], directory: Path, stdin: str | None = None) -> None:
    done = subprocess.run(
        command,
        env=environment,
        cwd=directory,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, without_progress(done.stderr), done.returncode) == ("", "", 0)


def test_the_script(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "sample.py"
    script.write_text(ON_ANY_PORT + IMPORTS + CLASSES + CALLS)
    run([sys.executable, str(script)], environment, tmp_path)


def test_the_rest_of_the_page(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "sample.py"
    script.write_text(ON_ANY_PORT + IMPORTS + CLASSES + CALLS + MORE_OF_THE_PAGE)
    run([sys.executable, str(script)], environment, tmp_path)


def test_started_elsewhere(environment: dict[str, str], tmp_path: Path) -> None:
    """By a relative path, from another directory."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "sample.py").write_text(ON_ANY_PORT + IMPORTS + CLASSES + CALLS)
    run([sys.executable, "folder/sample.py"], environment, tmp_path)


def test_inside_a_function(environment: dict[str, str], tmp_path: Path) -> None:
    body = "".join(f"    {line}\n" for line in (CLASSES + CALLS).splitlines())
    script = tmp_path / "sample.py"
    script.write_text(f"{ON_ANY_PORT}{IMPORTS}\ndef main():\n{body}\nif __name__ == '__main__':\n    main()\n")
    run([sys.executable, str(script)], environment, tmp_path)


def test_in_a_module_beside_the_script(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("from helper import PUNCTUATION\n" + IMPORTS + CLASSES)
    (tmp_path / "helper.py").write_text("PUNCTUATION = '!'\n")
    script = tmp_path / "sample.py"
    script.write_text(ON_ANY_PORT + IMPORTS + "from beside import app\n" + CALLS)
    run([sys.executable, str(script)], environment, tmp_path.parent)


def test_main_that_uses_a_module_beside_it(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("def greet(message):\n    return f'Hello {message}!'\n")
    classes = CLASSES.replace('f"Hello {message}!"', "helper.greet(message)")
    script = tmp_path / "sample.py"
    script.write_text(ON_ANY_PORT + IMPORTS + "import helper\n" + classes + CALLS)
    run([sys.executable, str(script)], environment, tmp_path.parent)


def test_run_as_a_module(environment: dict[str, str], tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sample.py").write_text(ON_ANY_PORT + IMPORTS + CLASSES + CALLS)
    run([sys.executable, "-m", "package.sample"], environment, tmp_path)


@pytest.mark.parametrize("how", ["-c", "stdin"])
def test_without_a_file(how: str, environment: dict[str, str], tmp_path: Path) -> None:
    program = ON_ANY_PORT + IMPORTS + CLASSES + CALLS
    if how == "-c":
        run([sys.executable, "-c", program], environment, tmp_path)
    else:
        run([sys.executable, "-"], environment, tmp_path, stdin=program)


def test_in_a_notebook(environment: dict[str, str], tmp_path: Path) -> None:
    """Cells are executed one by one in a ``__main__`` that no file belongs to, the loop of a kernel running."""
    cells = [ON_ANY_PORT, IMPORTS, *(f"{part}\n" for part in CLASSES.split("\n\n@")), CALLS.splitlines()[0]]
    cells = [cell if cell.startswith(("import", "from", "@", "app", "handle")) else f"@{cell}" for cell in cells]
    kernel = f"""
import asyncio, json, sys, types
main = types.ModuleType("__main__")
sys.modules["__main__"] = main
cells = json.loads({json.dumps(json.dumps(cells))})

async def kernel():
    for number, cell in enumerate(cells):
        exec(compile(cell, f"<ipython-input-{{number}}>", "exec"), vars(main))
    assert await main.handle.remote("world") == "Hello world!"
    exec("Ingress2 = Ingress.options(name='Again')", vars(main))
    exec("app2 = Ingress2.bind(Downstream.bind())", vars(main))
    exec("handle2 = serve.run(app2, name='again', route_prefix='/again')", vars(main))
    assert await main.handle2.remote("again") == "Hello again!"

asyncio.run(kernel())
"""
    (tmp_path / "kernel.py").write_text(kernel)
    run([sys.executable, str(tmp_path / "kernel.py")], environment, tmp_path)


def test_a_name_that_shadows_ours(environment: dict[str, str], tmp_path: Path) -> None:
    """Files named like modules that the instance itself needs do it no harm."""
    for name in ("control", "select", "queue", "logging", "uvicorn"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('the wrong one')\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "sample.py").write_text(ON_ANY_PORT + IMPORTS + CLASSES + CALLS)
    run([sys.executable, "folder/sample.py"], environment, tmp_path)
