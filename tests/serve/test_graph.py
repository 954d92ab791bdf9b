"""Applications to what the controller is told; replicas are other processes."""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import subprocess
import sys
import threading

import pytest

from fairlead import serve
from fairlead.serve.exceptions import RayServeException
from fairlead.serve.graph import application_spec
from fairlead.serve.handle import DeploymentHandle
from fairlead.serve.sources import source_digest
from tests.serve import bound_module


@serve.deployment
class Model:
    def __init__(self, *args, **kwargs):
        self.args = args


@serve.deployment
class Ingress:
    def __init__(self, *args, **kwargs):
        self.args = args


def arguments(spec, name):
    (found,) = [one for one in spec.deployments if one.name == name]
    return pickle.loads(found.init_arguments)


def test_one_deployment():
    spec = application_spec(Model.bind(), name="app", route_prefix="/x")
    assert (spec.name, spec.route_prefix, spec.ingress_deployment) == ("app", "/x", "Model")
    (one,) = spec.deployments
    assert one.init_arguments == b""
    assert one.settings.max_ongoing_requests == 5


def test_no_route():
    assert not application_spec(Model.bind(), route_prefix=None).HasField("route_prefix")


def test_nested_applications_become_handles_wherever_they_stand():
    inner = Model.bind(1)
    application = Ingress.bind(
        inner, [inner, {"a": (Model.options(name="Other").bind(),)}], held=bound_module.Holder(inner), plain=3
    )
    spec = application_spec(application, name="app")
    assert [one.name for one in spec.deployments] == ["Model", "Other", "Ingress"]
    assert spec.ingress_deployment == "Ingress"
    args, kwargs = arguments(spec, "Ingress")
    handles = [args[0], args[1][0], args[1][1]["a"][0], kwargs["held"].inner]
    assert all(type(handle) is DeploymentHandle for handle in handles)
    assert [handle.deployment_name for handle in handles] == ["Model", "Model", "Other", "Model"]
    assert {handle.app_name for handle in handles} == {"app"}
    assert kwargs["plain"] == 3
    assert arguments(spec, "Model") == ((1,), {})


def test_equal_names_are_numbered_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "fairlead.serve"):
        spec = application_spec(Ingress.bind(Model.bind(1), Model.bind(2), Model.bind(3)))
    assert [one.name for one in spec.deployments] == ["Model", "Model_1", "Model_2", "Ingress"]
    args, _ = arguments(spec, "Ingress")
    assert [handle.deployment_name for handle in args] == ["Model", "Model_1", "Model_2"]
    assert "Renaming one to 'Model_1'" in caplog.text


def test_a_diamond_has_one_shared_deployment():
    shared = Model.bind()
    spec = application_spec(
        Ingress.bind(Model.options(name="Left").bind(shared), Model.options(name="Right").bind(shared))
    )
    assert [one.name for one in spec.deployments] == ["Model", "Left", "Right", "Ingress"]


def test_an_application_bound_to_itself():
    arguments = []
    application = Model.bind(arguments)
    arguments.append(application)
    with pytest.raises(ValueError, match="bound to itself"):
        application_spec(application)


@pytest.mark.parametrize("target", [Model, bound_module.Plain, lambda: 1, 3, None, DeploymentHandle("X")])
def test_what_bind_did_not_make_is_refused(target):
    with pytest.raises(TypeError, match=r"`serve.run` expects an `Application` returned by `Deployment.bind\(\)`"):
        application_spec(target)


def test_empty_names_are_refused():
    with pytest.raises(RayServeException):
        application_spec(Model.bind(), name="")


@pytest.mark.parametrize(
    ("prefix", "message"),
    [("api", "must start with"), ("/api/", "may not end with"), ("/{a}", "may not contain wildcards"), ("", "start")],
)
def test_bad_route_prefixes(prefix, message):
    with pytest.raises(ValueError, match=message):
        application_spec(Model.bind(), route_prefix=prefix)


def test_importable_code_travels_by_name():
    plain = serve.deployment(bound_module.Plain)
    module = bound_module.__name__
    for deployment in (plain, bound_module.Decorated, bound_module.function):
        (one,) = application_spec(deployment.bind()).deployments
        assert one.import_path == f"{module}:{deployment.name}"
        assert not one.pickled_code


def test_the_digest_of_the_sources_travels_along():
    spec = application_spec(bound_module.Decorated.bind()).deployments[0]
    assert spec.source_digest == source_digest(bound_module.Plain) != ""


def test_strings_are_import_paths():
    (one,) = application_spec(serve.deployment("package.module:Class", num_replicas=2).bind(1)).deployments
    assert (one.name, one.import_path, one.settings.num_replicas) == ("Class", "package.module:Class", 2)


def test_local_code_travels_by_value():
    secret = 41

    @serve.deployment
    class Local:
        def __call__(self):
            return secret + 1

    (one,) = application_spec(Local.bind()).deployments
    assert one.WhichOneof("code") == "pickled_code"
    assert pickle.loads(one.pickled_code)()() == 42


def test_code_of_a_module_that_replicas_would_not_find_travels_by_value(tmp_path):
    (tmp_path / "hidden.py").write_text(
        "from fairlead import serve\n"
        "def helper():\n"
        "    return 42\n"
        "@serve.deployment\n"
        "class Hidden:\n"
        "    def __call__(self):\n"
        "        return helper()\n"
    )
    location = importlib.util.spec_from_file_location("hidden", tmp_path / "hidden.py")
    module = importlib.util.module_from_spec(location)
    sys.modules["hidden"] = module
    try:
        location.loader.exec_module(module)
        (one,) = application_spec(module.Hidden.bind()).deployments
    finally:
        del sys.modules["hidden"]
    assert pickle.loads(one.pickled_code)()() == 42


def test_code_of_a_script_runs_in_another_process(tmp_path):
    (tmp_path / "beside.py").write_text("VALUE = 7\n")
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "from fairlead import serve\n"
        "from fairlead.serve.graph import application_spec\n"
        "import beside\n"
        "@serve.deployment\n"
        "class InMain:\n"
        "    def __init__(self, value):\n"
        "        self.value = value\n"
        "    def __call__(self):\n"
        "        return self.value + beside.VALUE\n"
        "spec = application_spec(InMain.bind(1))\n"
        "sys.stdout.buffer.write(spec.SerializeToString())\n"
    )
    made = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, check=True, timeout=60)
    replica = (
        "import sys, pickle\n"
        "from fairlead.v1 import control_pb2\n"
        "spec = control_pb2.ApplicationSpec.FromString(sys.stdin.buffer.read())\n"
        "sys.path[:] = spec.environment.sys_path\n"
        "one = spec.deployments[0]\n"
        "args, kwargs = pickle.loads(one.init_arguments)\n"
        "print(pickle.loads(one.pickled_code)(*args, **kwargs)())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", replica], input=made.stdout, cwd="/", capture_output=True, check=True, timeout=60
    )
    assert done.stdout.strip() == b"8"


def test_the_environment_is_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "relative", "/absolute", "/absolute"])
    environment = application_spec(Model.bind()).environment
    assert environment.working_directory == os.getcwd()
    assert list(environment.sys_path) == [os.getcwd(), os.path.join(os.getcwd(), "relative"), "/absolute"]


def test_what_cannot_be_pickled_is_named():
    with pytest.raises(TypeError, match="arguments of 'Model' cannot be sent to replicas"):
        application_spec(Model.bind(threading.Lock()))
    lock = threading.Lock()

    @serve.deployment
    def closes_over():
        return lock

    with pytest.raises(TypeError, match="cannot be sent to replicas"):
        application_spec(closes_over.bind())


def test_the_same_application_gives_the_same_bytes():
    def build():
        return application_spec(Ingress.bind(Model.bind([1, 2]))).SerializeToString(deterministic=True)

    assert build() == build()
