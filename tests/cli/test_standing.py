"""A standing instance, by what is typed: deploying, calling, looking, and a controller that comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.typed import COUNTER, Typed, until
from tests.typist import PATIENCE_S, PROGRAM, ROOT


def test_from_a_file_to_calls_and_back(running: Typed) -> None:
    one = {
        **COUNTER,
        "import_path": "tests.cli.standing_app:build",
        "args": {"size": 10},
        "runtime_env": {"env_vars": {"FLAVOUR": "vanilla"}},
        "deployments": [{"name": "Counter", "num_replicas": 2, "user_config": {"greeting": "hi"}}],
    }
    two = {"name": "other", "route_prefix": None, "import_path": "tests.cli.standing_app:app"}
    running.well("deploy", running.file(one, two))
    assert running.value("config", "--json") == {"applications": [one, two]}
    assert yaml.safe_load(running.well("config")) == {"applications": [one, two]}
    assert running.well("call", "counter", "--json", '{"x": 1, "y": 2}').strip() == "13"
    assert running.well("call", "counter/Counter", "--json", "[1]").strip() == "11"
    assert running.well("call", "counter/Counter.count", "--stream", "--json", "3").split() == ["0", "1", "2"]
    about = running.value("call", "counter/Counter.about")
    assert (about["greeting"], about["flavour"]) == ("hi", "vanilla")
    running.well("scale", "counter/Counter", "1")
    counter = running.value("status", "--json")["applications"]["counter"]
    assert (counter["status"], counter["deployments"]["Counter"]["target_replicas"]) == ("RUNNING", 1)

    def replicas() -> int:
        status = running.value("status", "--json")
        return len(status["applications"]["counter"]["deployments"]["Counter"]["replicas"])

    until(lambda: replicas() == 1)
    shown = running.well("status", "counter")
    assert "RUNNING" in shown
    assert "/counter" in shown
    assert "other" not in shown
    done = running("deploy", running.file(two))
    assert "deleted counter" in done.stderr
    assert list(running.value("status", "--json")["applications"]) == ["other"]
    running.well("delete", "other")
    assert "no application is deployed" in running.well("status")


def test_calls_find_any_reachable_gateway(running: Typed) -> None:
    running.well("deploy", running.file(COUNTER))
    gateways = running.value("status", "--json")["gateways"]
    controller = f"unix:{running.state}/standing/controller.sock"
    for address in (controller, gateways[0]["grpc"]):
        assert running.well("call", "counter", "--json", "[5]", "--address", address).strip() == "6"
        assert running.well("call", "counter/Counter.count", "-s", "-j", "2", FAIRLEAD_ADDRESS=address).split() == [
            "0",
            "1",
        ]
    running.well("delete", "counter")


def test_a_watch_tells_of_changes(running: Typed) -> None:
    watching = subprocess.Popen(
        [PROGRAM, "status", "--watch", "--json"], env=running.environment, stdout=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["applications"] == {}
    running.well("deploy", "--no-wait", running.file(COUNTER))
    for line in watching.stdout:
        if json.loads(line)["applications"].get("counter", {}).get("status") == "RUNNING":
            break
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=PATIENCE_S)
    assert watching.returncode == 130
    running.well("delete", "counter")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["delete", "countr"], "there is no application 'countr'; did you mean 'counter'?"),
        (["scale", "counter/Countr", "2"], "application 'counter' has no deployment 'Countr'; did you mean 'Counter'?"),
        (["scale", "counter", "2"], "'counter' is not application/deployment"),
        (["status", "count"], "there is no application 'count'; did you mean 'counter'?"),
        (["call", "countr"], "there is no application 'countr'; did you mean 'counter'?"),
        (["call", "countr/Counter"], "there is no application 'countr'; did you mean 'counter'?"),
        (["call", "counter/Countr"], "application 'counter' has no deployment 'Countr'; did you mean 'Counter'?"),
        (["call", "counter/Counter.count", "--json", "[3]"], "deployment. Here stream=True is --stream."),
        (["call", "counter", "--stream"], "it did not return a generator. Here stream=True is --stream."),
        (["call", "counter/Counter.fail"], "counter/Counter.fail raised ValueError: in two lines"),
        (["call", "counter/Counter.nope"], "nope"),
        (["call", "counter", "--json", "{x}"], "--json is not JSON"),
        (["call", "counter", "--json", "@/no/file"], "--json: /no/file cannot be read: No such file"),
        (["call", "/counter"], "'/counter' is not application/deployment.method"),
        (["logs", "contrller"], "there is no log of 'contrller'"),
        (["start"], "an instance runs already"),
        (["deploy", "/no/config.yaml"], "/no/config.yaml cannot be read"),
        (
            ["status", "--address", "unix:/no/controller.sock"],
            "unix:/no/controller.sock does not answer: nothing listens",
        ),
        (["traffic", "counter", "Counter=80"], "the shares must sum up to 100, not 80"),
        (["traffic", "counter", "Countr=100"], "did you mean 'Counter'?"),
        (["traffic", "counter", "--endpoint", "Countr"], "calls to counter/Countr are not spread"),
        (["traffic", "counter", "--clear", "--endpoint", "nowhere"], "calls to counter/nowhere are not spread"),
    ],
)
def test_unknown_names_are_one_line(running: Typed, counter: None, arguments: list[str], said: str) -> None:
    assert said in running.refusal(*arguments)


def test_run_says_what_is_ignored_and_only_that(running: Typed) -> None:
    ran = ("tests.cli.standing_app:app", "--name", "ran", "--route-prefix", "/ran")
    file = running.file({**COUNTER, "name": "ran", "route_prefix": "/ran"})
    for given, ignored in ((ran, False), ((*ran, "--http-port", "0"), True), ((file,), False)):
        serving = subprocess.Popen(
            [PROGRAM, "run", *given], cwd=ROOT, env=running.environment, stderr=subprocess.PIPE, text=True
        )
        assert serving.stderr is not None
        said = []
        for line in serving.stderr:
            said.append(line)
            if "gRPC" in line:
                break
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=PATIENCE_S)
        assert any("options are ignored" in line for line in said) is ignored, said


def test_an_endpoint_is_called_like_a_deployment(running: Typed, counter: None) -> None:
    """Also one that there is no deployment for."""
    running.well("traffic", "counter", "--endpoint", "spread", "Counter=100")
    assert running.well("traffic", "counter", "--endpoint", "spread") == "counter/spread: counter/Counter 100 %\n"
    assert running.value("call", "counter/spread", "--json", "[3]") == 4
    program = (
        "from fairlead import serve\nassert serve.get_deployment_handle('spread', 'counter').remote(5).result() == 6"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=running.environment, check=True, timeout=PATIENCE_S)
    running.well("traffic", "counter", "--endpoint", "spread", "--clear")
    assert "no deployment 'spread'" in running.refusal("call", "counter/spread", "--json", "[3]")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"import_path": "tests.cli.standing_app:ap"},
            "config.yaml:5: application 'wrong': module 'tests.cli.standing_app' has no 'ap'. Did you mean 'app'?",
        ),
        ({"import_path": "tests.cli.no_such_module:app"}, "there is no module 'tests.cli.no_such_module'"),
        ({"import_path": "tests.cli.standing_app:build", "args": {}}, "KeyError: 'size'"),
        (
            {"deployments": [{"name": "Countr"}]},
            "config.yaml:6: application 'wrong' has no deployment 'Countr'; did you mean 'Counter'?",
        ),
        ({"deployments": [{"name": "Counter", "num_replica": 2}]}, "did you mean 'num_replicas'?"),
        (
            {"deployments": [{"name": "Counter", "request_router_config": {"request_router_class": "no.where:R"}}]},
            "config.yaml:8: application 'wrong': deployment 'Counter': request_router_class: there is no module "
            "'no.where'",
        ),
        (
            {"deployments": [{"name": "Counter", "autoscaling_config": {"policy": {"policy_function": "no:way"}}}]},
            "config.yaml:8: application 'wrong': deployment 'Counter': policy_function: there is no module 'no'",
        ),
        (
            {"deployments": [{"name": "Counter", "autoscaling_config": {"policy": "tests.cli.standing_app:no"}}]},
            "config.yaml:7: application 'wrong': deployment 'Counter': policy_function: module "
            "'tests.cli.standing_app' has no 'no'",
        ),
        (
            {"import_path": "tests.cli.standing_app:unrouted"},
            "config.yaml:5: application 'wrong': deployment 'Counter': request_router_class: there is no module 'no'",
        ),
        (
            {"route_prefix": "/counter"},
            "config.yaml:7: application 'wrong': the route prefix /counter is that of",
        ),
    ],
)
def test_a_file_that_is_wrong_changes_nothing(running: Typed, changes: dict[str, Any], said: str) -> None:
    running.well("deploy", running.file(COUNTER))
    before = running.value("status", "--json")["applications"]
    good = {**COUNTER, "name": "good", "route_prefix": "/good"}
    wrong = {**COUNTER, "name": "wrong", "route_prefix": "/wrong", **changes}
    if "route_prefix" in changes:
        # A program has deployed the one that is there.
        running.well("delete", "counter")
        program = (
            "from fairlead import serve\n"
            "from tests.cli.standing_app import app\n"
            "serve.run(app, name='counter', route_prefix='/counter')"
        )
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=running.environment, check=True, timeout=PATIENCE_S
        )
        before = running.value("status", "--json")["applications"]
    assert said in running.refusal("deploy", running.file(good, wrong))
    assert running.value("status", "--json")["applications"] == before
    if "route_prefix" in changes:
        running.well("delete", "counter")


def test_a_constructor_that_fails(running: Typed) -> None:
    broken = {"name": "broken", "route_prefix": None, "import_path": "tests.cli.standing_app:broken"}
    done = running("deploy", running.file(broken))
    assert done.returncode == 1
    assert "Deploying application broken failed" in done.stderr
    assert "ValueError: it was never to work" in done.stderr
    assert running("status").returncode == 3
    running.well("delete", "broken")


AWAY = """
from fairlead import serve
from fairlead.serve.exceptions import RayServeException

for handle in (serve.get_app_handle("counter"), serve.get_deployment_handle("Counter", "counter")):
    print(handle.about.remote().result()["pid"])
for refused in (serve.status, lambda: serve.delete("counter")):
    try:
        refused()
    except RayServeException as error:
        assert "has no controller" in str(error) and "`fairlead start` brings it back" in str(error), error
        print("refused")
try:
    serve.get_app_handle("nobody").remote().result()
except RayServeException as error:
    assert "Application 'nobody' not found" in str(error), error
    print("unknown")
"""


def test_a_controller_that_was_killed_is_brought_back(running: Typed) -> None:
    running.well("deploy", running.file(COUNTER))
    before = running.value("status", "--json")
    replica = running.value("call", "counter/Counter.about")["pid"]
    os.kill(before["controller"]["pid"], signal.SIGKILL)
    line = running.refusal("status")
    assert "has no controller" in line
    assert "`fairlead start` brings it back" in line
    grpc = before["gateways"][0]["grpc"]
    assert running.value("call", "counter/Counter.about", "--address", grpc)["pid"] == replica
    # Programs that start now have handles, too.
    assert running.value("call", "counter/Counter.about")["pid"] == replica
    said = subprocess.run(
        [sys.executable, "-c", AWAY], env=running.environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert said.stdout.split() == [str(replica), str(replica), "refused", "refused", "unknown"], said.stderr
    assert "run with other options" in running.refusal("start", "--http-port", "0")
    running.well("start")
    after = running.value("status", "--json")
    assert after["applications"] == before["applications"]
    assert after["gateways"] == before["gateways"]
    assert after["controller"]["pid"] != before["controller"]["pid"]
    assert running.value("call", "counter/Counter.about")["pid"] == replica


def test_logs(running: Typed) -> None:
    running.well("deploy", running.file(COUNTER))
    running.well("call", "counter/Counter.say", "--json", '["a word for the log"]')
    (replica,) = running.value("status", "--json")["applications"]["counter"]["deployments"]["Counter"]["replicas"]
    assert "a word for the log" in running.well("logs", replica["id"])
    listed = running.well("logs")
    assert {"controller", "gateway-0", "gateway-1", replica["id"]} <= set(listed.split())
    assert len(running.well("logs", "controller", "-n", "2").splitlines()) == 2


def test_a_program_brings_a_controller_back(running: Typed) -> None:
    before = running.value("status", "--json")
    os.kill(before["controller"]["pid"], signal.SIGKILL)
    program = "from fairlead import serve\nserve.start(detached=True)\nprint(len(serve.status().proxies))"
    said = subprocess.run(
        [sys.executable, "-c", program], env=running.environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert said.stdout.strip() == "2", said.stderr
    assert running.value("status", "--json")["gateways"] == before["gateways"]


def test_a_second_controller_on_the_same_state(running: Typed) -> None:
    command = [
        sys.executable,
        "-m",
        "fairlead_gateway.control",
        "--standing",
        "--directory",
        f"{running.state}/standing",
    ]
    done = subprocess.run(
        command, env=running.environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    pid = running.value("status", "--json")["controller"]["pid"]
    assert f"a controller, process {pid}, uses the state" in line


def test_a_program_that_uses_the_standing_instance_ends_what_it_has_deployed(running: Typed) -> None:
    command = [PROGRAM, "run", "tests.cli.standing_app:app", "--name", "mine", "--route-prefix", "/mine"]
    serving = subprocess.Popen(command, cwd=ROOT, env=running.environment, stderr=subprocess.PIPE, text=True)
    assert serving.stderr is not None
    assert any("mine is running" in line for line in serving.stderr)
    assert "mine" in running.value("status", "--json")["applications"]
    serving.send_signal(signal.SIGTERM)
    serving.communicate(timeout=PATIENCE_S)
    assert serving.returncode == 0
    assert "mine" not in running.value("status", "--json")["applications"]


def test_what_of_a_file_changes_nothing_is_said(running: Typed, counter: None) -> None:
    settings = [{"name": "Counter", "ray_actor_options": {"num_cpus": 1}}]
    file = running.file({**COUNTER, "deployments": settings}, http_options={"port": 1})
    said = running("deploy", file)
    assert said.returncode == 0
    assert f"fairlead: {file}: without effect outside of Ray: counter/Counter: ray_actor_options" in said.stderr
    assert f"{file}: http_options: for the start of an instance; this one keeps what it was started with" in said.stderr


def test_one_policy_for_an_application(running: Typed) -> None:
    policy = {"policy_function": "tests.cli.standing_app:shared_policy", "policy_kwargs": {"each": 0}}
    pair = {"name": "pair", "route_prefix": None, "import_path": "tests.cli.standing_app:pair"}
    running.well("deploy", running.file({**pair, "autoscaling_policy": policy}))

    def scaled() -> bool:
        found = running.value("status", "pair", "--json")["applications"]["pair"]["deployments"].values()
        return [[one["state"] for one in each["replicas"]] for each in found] == [["RUNNING"] * 2] * 2

    until(scaled)
    own = {"name": "Counter", "autoscaling_config": {"max_replicas": 2, "policy": policy}}
    for change, said in (
        ({"autoscaling_policy": {"policy_function": "tests.cli.standing_app:no_policy"}}, "has no 'no_policy'"),
        ({"autoscaling_policy": policy, "deployments": [own]}, "'Counter' has a policy of its own"),
        ({"autoscaling_policy": policy, "import_path": COUNTER["import_path"]}, "no deployment scales by itself"),
    ):
        assert said in running.refusal("deploy", running.file({**pair, **change}))
    running.well("delete", "pair")


SCRIPT = """
import os
from fairlead import serve

class Helper:
    words = {"alpha", "beta", "gamma", "delta"}

@serve.deployment
class Here:
    def __init__(self, helper):
        self.helper = helper
    def __call__(self):
        return [os.getpid(), 1, sorted(self.helper.words | {"one", "two", "three"})]

print(serve.run(Here.bind(Helper()), name="script", route_prefix=None).remote().result())
"""


def test_a_script_that_is_run_again_restarts_what_has_changed(running: Typed, tmp_path: Path) -> None:
    script = tmp_path / "script.py"

    def run(source: str) -> str:
        script.write_text(source)
        command = [sys.executable, str(script)]
        return subprocess.run(command, env=running.environment, stdout=subprocess.PIPE, check=True).stdout.decode()

    first = run(SCRIPT)
    assert run(SCRIPT) == first
    assert run(SCRIPT.replace("getpid(), 1", "getpid(), 2")) != first
    running.well("delete", "script")
