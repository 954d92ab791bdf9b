"""The user's code as replicas load it."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from fairlead import serve
from fairlead.serve.exceptions import RayServeException
from fairlead.v1 import control_pb2
from fairlead_replica.assignment import load_arguments, load_code
from fairlead_replica.tracebacks import user_traceback

PROGRAM = """
from fairlead import serve

@serve.deployment
class Model:
    pass

{then}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's, ``served_at_import``."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "served_at_import", raising=False)
    return tmp_path / "served_at_import.py"


@pytest.mark.parametrize("call", ["serve.run(Model.bind())", "serve.run_many([serve.RunTarget(Model.bind())])"])
@pytest.mark.parametrize("path", ["served_at_import:Model", "served_at_import.Model"])
def test_a_module_that_deploys_when_it_is_imported(module: Path, path: str, call: str) -> None:
    module.write_text(PROGRAM.format(then=call))
    name = call.partition("(")[0]
    with pytest.raises(RayServeException, match=rf"`{name}` was called while a replica.*'M'.*if __name__ ==") as raised:
        load_code(control_pb2.DeploymentSpec(name="M", import_path=path))
    inner = raised.value.with_traceback(raised.value.__traceback__ and raised.value.__traceback__.tb_next)
    shown = user_traceback(inner).splitlines()  # without the line above
    assert [line.strip() for line in shown if not line.strip(" ^").startswith("fairlead.")] == [
        "Traceback (most recent call last):",
        f'File "{module}", line 8, in <module>',
        call,
        *(line.strip() for line in shown if set(line) == {" ", "^"}),
    ]
    pickled = b"cserved_at_import\nModel\n({tR."  # a reference by name, in pickle's first protocol
    with pytest.raises(RayServeException, match=r"'M'.*if __name__ =="):
        load_arguments(control_pb2.DeploymentSpec(name="M", init_arguments=pickled))


def test_a_module_that_deploys_as_a_program_only(module: Path) -> None:
    module.write_text(PROGRAM.format(then='if __name__ == "__main__":\n    serve.run(Model.bind())'))
    assert load_code(control_pb2.DeploymentSpec(name="M", import_path="served_at_import:Model")).__name__ == "Model"
    arguments = pickle.dumps(((1,), {"a": 2}))
    assert load_arguments(control_pb2.DeploymentSpec(init_arguments=arguments)) == ((1,), {"a": 2})
    with pytest.raises(TypeError, match="expects an `Application`"):  # elsewhere it may be called
        serve.run(3)
