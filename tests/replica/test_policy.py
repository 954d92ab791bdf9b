import base64
import io
import subprocess
import sys

import cloudpickle
import orjson
import psutil
import pytest

from fairlead.serve.handle import DeploymentID
from fairlead.v1 import control_pb2
from fairlead_replica.policy import Policy, serve
from tests.e2e.stage import wait_until

CONTEXT = {
    "app_name": "app",
    "deployment_name": "Echo",
    "current_num_replicas": 1,
    "target_num_replicas": 1,
    "total_num_requests": 4.0,
    "total_queued_requests": 1,
    "capacity_adjusted_min_replicas": 0,
    "capacity_adjusted_max_replicas": 9,
    "current_time": 5.0,
}
OTHER = {**CONTEXT, "deployment_name": "Other", "total_num_requests": 7.0}
LINE = orjson.dumps({"contexts": {"Echo": CONTEXT}}) + b"\n"
OF_ALL = orjson.dumps({"contexts": {"Echo": CONTEXT, "Other": OTHER}}) + b"\n"


def decided(function, times=1):
    policy = Policy(function)
    return [orjson.loads(policy.decide(LINE)) for _ in range(times)]


def decided_for_all(function, times=1):
    policy = Policy(function, of_application=True)
    return [orjson.loads(policy.decide(OF_ALL)) for _ in range(times)]


def both(replicas):
    return {DeploymentID(name, "app"): replicas for name in ("Echo", "Other")}


def test_it_is_told_and_answers():
    assert decided(lambda context: context.total_num_requests / 2) == [{"replicas": {"Echo": 2}}]


def test_it_remembers_what_it_returned():
    def counting(context):
        count = context.policy_state.get("count", 0) + 1
        return count, {"count": count}

    assert [each["replicas"]["Echo"] for each in decided(counting, times=3)] == [1, 2, 3]


@pytest.mark.parametrize("answer", [None, "three", -1, True])
def test_what_is_no_number_of_replicas_is_an_error(answer):
    (said,) = decided(lambda context: answer)
    assert "number of replicas" in said["error"]


def test_an_exception_is_told_with_its_traceback():
    (said,) = decided(lambda context: 1 / 0)
    assert "ZeroDivisionError" in said["error"]


def test_a_policy_of_an_application_sees_all_and_decides_for_all_in_one_call():
    calls = []

    def shared(contexts):
        calls.append(contexts)
        seen = {each.name: context.total_num_requests for each, context in contexts.items()}
        assert all(each.app_name == "app" for each in contexts)
        return both(sum(seen.values()))

    assert decided_for_all(shared) == [{"replicas": {"Echo": 11, "Other": 11}}]
    assert len(calls) == 1


def test_a_policy_of_an_application_remembers_something_of_each_deployment():
    def counting(contexts):
        states = {each: dict(context.policy_state) for each, context in contexts.items()}
        for each, state in states.items():
            state["count"] = state.get("count", 0 if each.name == "Echo" else 5) + 1
        return {each: state["count"] for each, state in states.items()}, states

    last = decided_for_all(counting, times=3)[-1]
    assert last == {"replicas": {"Echo": 3, "Other": 8}}


def test_a_policy_of_an_application_need_not_decide_or_remember():
    only = {DeploymentID("Other", "app"): 3}
    assert decided_for_all(lambda contexts: only) == [{"replicas": {"Other": 3}}]
    assert decided_for_all(lambda contexts: ({}, None), times=2) == [{"replicas": {}}] * 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (3, "numbers by DeploymentID"),
        ({"Echo": 3}, "numbers by DeploymentID"),
        ({DeploymentID("Nobody", "app"): 3}, "no deployment 'Nobody'"),
        (both(-1), "number of replicas"),
        ((both(1), {"rounds": 1}), "dictionaries by DeploymentID"),
        ((both(1), both(1)), "dictionaries by DeploymentID"),
    ],
)
def test_what_is_no_answer_for_an_application_is_an_error(answer, said):
    (found,) = decided_for_all(lambda contexts: answer)
    assert said in found["error"]


def first_line(**settings):
    parts = (control_pb2.AutoscalingSettings(**settings), control_pb2.CodeEnvironment())
    return b" ".join(base64.b64encode(part.SerializeToString()) for part in parts) + b"\n"


@pytest.fixture
def asked(monkeypatch):
    """What comes of a first line and two questions."""
    monkeypatch.setattr("fairlead_replica.policy.apply_environment", lambda environment: None)

    def ask(first):
        answers = io.BytesIO()
        serve([first, LINE, LINE], answers)
        return [orjson.loads(line) for line in answers.getvalue().splitlines()]

    return ask


def test_a_policy_by_value_with_arguments(asked):
    policy = cloudpickle.dumps(lambda context, *, each: context.total_queued_requests + each)
    first = first_line(pickled_policy=policy, policy_arguments=cloudpickle.dumps({"each": 2}))
    assert asked(first) == [{"replicas": {"Echo": 3}}] * 2


def test_a_policy_that_cannot_be_imported_is_told_at_each_question(asked):
    answers = asked(first_line(policy_import_path="no.such.module:policy"))
    assert len(answers) == 2
    assert "no.such" in answers[1]["error"] or "No module named 'no'" in answers[1]["error"]


def hang(context):
    while True:
        pass


def test_a_policy_that_hangs_ends_with_whoever_asked_it(tmp_path):
    """As when the controller is killed."""
    first = tmp_path / "lines"
    first.write_bytes(first_line(policy_import_path=f"{__name__}:hang") + LINE)
    asker = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'fairlead_replica.policy', str(os.getpid())],\n"
        "    stdin=open(sys.argv[1]), stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(3600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", asker, str(first)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert psutil.pid_exists(pid)
        process.kill()
    wait_until(lambda: has_ended(pid), lambda: pid)


def has_ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
