"""serve.run and what goes with it, on a real instance."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import traceback
import urllib.request

import pytest

from fairlead.serve import api, deploying, lifecycle
from fairlead.serve.deployment import deployment
from fairlead.serve.exceptions import FairleadError
from fairlead.serve.status import ApplicationStatus, DeploymentStatus, ProxyStatus, ServeStatus


@pytest.fixture(scope="module", autouse=True)
def instance(tmp_path_factory):
    """One instance for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path_factory.mktemp("s")))
        patch.delenv("FAIRLEAD_ADDRESS", raising=False)
        api.start(http_options={"port": 0}, grpc_options={"port": 0})
        yield
        api.shutdown()
        assert list((tmp_path_factory.getbasetemp() / "s0").iterdir()) == []


@deployment
class Echo:
    def __init__(self, greeting=""):
        self.greeting = greeting

    def __call__(self, value):
        return f"{self.greeting}{value}"

    def pid(self):
        return os.getpid()


@deployment(max_constructor_retry_count=1)
class Broken:
    def __init__(self):
        raise ValueError("no model here")

    def __call__(self):
        pass


@deployment
class Front:
    def __init__(self, echo):
        self.echo = echo

    async def __call__(self, value):
        return await self.echo.remote(value)

    def neighbour(self):
        return api.get_deployment_handle("Echo").deployment_id

    def applications(self):
        return list(api.status().applications)


def test_run_returns_a_handle_that_works():
    assert api.run(Echo.bind("hello "), name="one", route_prefix="/one").remote("you").result() == "hello you"


def test_run_answers_over_http_at_once():
    api.run(Echo.bind("hello "), name="one", route_prefix="/one")
    address = api.instance_status().gateways[0].http_address
    with urllib.request.urlopen(f"http://{address}/-/healthz", timeout=60) as response:
        assert response.status == 200


def test_running_again_updates_in_place():
    first = api.run(Echo.bind("a"), name="one", route_prefix="/one")
    pid = first.pid.remote().result()
    same = api.run(Echo.options(max_ongoing_requests=9).bind("a"), name="one", route_prefix="/one")
    assert same.pid.remote().result() == pid
    other = api.run(Echo.bind("b"), name="one", route_prefix="/one")
    assert other.remote("c").result() == "bc"
    assert first.remote("c").result() == "bc"


def test_a_constructor_that_fails_is_reported_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"^Deploying application broken failed(.|\n)*ValueError: no model here"):
        api.run(Broken.bind(), name="broken", route_prefix=None)
    state = api.status().applications["broken"]
    assert state.status == ApplicationStatus.DEPLOY_FAILED
    assert state.deployments["Broken"].status == DeploymentStatus.DEPLOY_FAILED
    api.delete("broken")


def test_status_tells_everything():
    api.run(Echo.bind(), name="one", route_prefix="/one")
    status = api.status()
    assert status.proxies == {"gateway-0": ProxyStatus.HEALTHY}
    one = status.applications["one"]
    assert one.status == "RUNNING"
    assert one.last_deployed_time_s > 1e9
    assert one.deployments["Echo"].replica_states["RUNNING"] == 1
    assert one.deployments["Echo"].status_trigger == "CONFIG_UPDATE_COMPLETED"


def test_handles_are_found_by_name():
    api.run(Echo.bind("x"), name="one", route_prefix="/one")
    assert api.get_app_handle("one").remote("y").result() == "xy"
    assert len({id(api.get_deployment_handle("Echo", "one")) for _ in range(5)}) == 1
    with pytest.raises(FairleadError, match="Application 'nobody' does not exist"):
        api.get_app_handle("nobody")
    with pytest.raises(KeyError, match="Nothing"):
        api.get_deployment_handle("Nothing", "one")
    assert api.get_deployment_handle("Nothing", "one", _check_exists=False).deployment_name == "Nothing"
    with pytest.raises(FairleadError, match="specify an application name"):
        api.get_deployment_handle("Echo")


def test_inside_a_replica_names_mean_its_own_application():
    handle = api.run(Front.bind(Echo.bind("in ")), name="two", route_prefix="/two")
    assert handle.remote("side").result() == "in side"
    assert str(handle.neighbour.remote().result()) == "Deployment(name='Echo', app='two')"
    assert "two" in handle.applications.remote().result()


def test_deleting_forgets_an_application():
    api.run(Echo.bind(), name="three", route_prefix="/three")
    api.delete("three")
    assert "three" not in api.status().applications
    api.delete("three")


def test_a_prefix_belongs_to_one_application():
    api.run(Echo.bind(), name="one", route_prefix="/one")
    with pytest.raises(FairleadError, match='Prefix /one is being used by application "one"') as refused:
        api.run(Echo.bind(), name="thief", route_prefix="/one")
    assert "grpc" not in "".join(traceback.format_exception(refused.value))


def test_an_interrupt_shows_the_users_lines(monkeypatch):
    def wait(depth):
        if not depth:
            raise KeyboardInterrupt
        wait(depth - 1)

    monkeypatch.setattr(deploying, "_deploy_all", lambda *arguments, **options: wait(5))
    for blocking in (False, True):
        with pytest.raises(KeyboardInterrupt) as raised:
            api.run(Echo.bind(), name="interrupted", route_prefix="/i", blocking=blocking)
        shown = "".join(traceback.format_exception(raised.value))
        assert 'name="interrupted"' in shown
        assert "wait(depth" not in shown


def test_run_many_deploys_all_of_them():
    targets = [
        api.RunTarget(target=Echo.bind(name), name=name, route_prefix=f"/{name}") for name in ("first", "second")
    ]
    assert [handle.remote("!").result() for handle in api.run_many(targets)] == ["first!", "second!"]
    for target in targets:
        api.delete(target.name)


def test_what_cannot_run_is_refused_before_anything_happens():
    with pytest.raises(TypeError, match="bind"):
        api.run(Echo)
    with pytest.raises(FairleadError, match="non-empty"):
        api.run(Echo.bind(), name="")
    for name in ("a/b", "a#b"):
        with pytest.raises(FairleadError, match="must not contain '/' or '#'"):
            api.run(Echo.bind(), name=name)
    with pytest.raises(ValueError, match="must start with a forward slash"):
        api.run(Echo.bind(), route_prefix="x")
    with pytest.raises(ValueError, match="controller_options has no effect here"):
        api.run(Echo.bind(), controller_options={"runtime_env": {}})
    with pytest.raises(ValueError, match=r"exporter_import_path 'nothing:here' cannot be imported"):
        api.start(tracing_config={"exporter_import_path": "nothing:here"})
    scaling = Echo.options(autoscaling_config={"max_replicas": 3}).bind()
    with pytest.raises(ValueError, match="'Echo' scales by itself: give it num_replicas instead"):
        api.run(scaling, external_scaler_enabled=True)
    with pytest.raises(TypeError, match="prot"):
        api.start(http_options={"prot": 1})


def test_a_servicer_function_that_is_none_is_refused():
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        api.start(grpc_options={"grpc_servicer_functions": ["nowhere.add_XServicer_to_server"]})


def test_halves_of_tls_are_refused():
    for options in ("http_options", "grpc_options"):
        for half in ({"ssl_certfile": "c"}, {"ssl_keyfile": "k"}):
            with pytest.raises(ValueError, match="Both ssl_keyfile and ssl_certfile must be provided together"):
                api.start(**{options: half})
        with pytest.raises(ValueError, match="need ssl_certfile"):
            api.start(**{options: {"ssl_ca_certs": "ca"}})


def test_options_are_ignored_when_an_instance_runs(caplog):
    with caplog.at_level(logging.WARNING):
        api.start(http_options={"port": 1})
    assert "ignored" in caplog.text


def test_several_threads_may_deploy():
    answers = []

    def work(name):
        answers.append(api.run(Echo.bind(name), name=name, route_prefix=None).remote("").result())
        api.delete(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["a", "b"]


PROGRAM = """
import fairlead.serve.api as api
from fairlead.serve.deployment import deployment

@deployment
def nothing(): pass

{body}
"""


def run_program(body, **environment):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_that_is_taken_is_a_clear_error():
    port = api.instance_status().gateways[0].http_address.rpartition(":")[2]
    starting = f"api.start(http_options={{'port': {port}}}, grpc_options={{'port': 0}})"
    ended = run_program(starting)
    assert ended.returncode == 1
    assert "ListenError: Starting Fairlead failed" in ended.stderr
    assert port in ended.stderr.rpartition("RuntimeError")[2]


def test_a_port_for_everybody_needs_to_be_asked_for():
    ended = run_program("api.start(http_options={'host': '0.0.0.0', 'port': 0}, grpc_options={'port': 0})")
    assert ended.returncode == 1
    assert "RuntimeError: Starting Fairlead failed" in ended.stderr
    assert "insecure" in ended.stderr.rpartition("RuntimeError")[2]


def test_an_instance_without_ports():
    ended = run_program(
        "api.start('Disabled'); print(api.run(nothing.bind()).remote().result(), api.instance_status().gateways[0])"
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("None ")
    assert "http_address" not in ended.stdout


def test_an_instance_at_an_address_is_used_and_left_alone():
    address = api.controller_address()
    ended = run_program("print(api.run(nothing.bind(), name='guest', route_prefix=None))", FAIRLEAD_ADDRESS=address)
    assert ended.returncode == 0, ended.stderr
    assert api.status().applications["guest"].status == "RUNNING"
    api.delete("guest")


NOTHING_RUNS = """
from fairlead.serve.status import ServeStatus
print(api.status() == ServeStatus())
api.shutdown()
try:
    api.get_app_handle("x")
except Exception as error:
    print(error)
"""


def test_nothing_runs(tmp_path):
    ended = run_program(NOTHING_RUNS, FAIRLEAD_STATE_DIR=str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[0] == "True"
    assert "no Fairlead instance running" in ended.stdout
    assert ServeStatus().applications == {}


async def test_shutdown_is_there_for_coroutines_too(monkeypatch):
    called = threading.Event()
    monkeypatch.setattr(lifecycle, "shutdown", called.set)
    await asyncio.wait_for(api.shutdown_async(), 60)
    assert called.is_set()
