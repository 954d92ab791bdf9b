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
LINE = orjson.dumps({"deployment": "Echo", "contexts": {"Echo": CONTEXT, "Other": OTHER}}) + b"\n"


def decided(function, times=1, **options):
    policy = Policy(function, **options)
    return [orjson.loads(policy.decide(LINE)) for _ in range(times)]


def test_it_is_told_and_answers():
    assert decided(lambda context: context.total_num_requests / 2) == [{"replicas": 2}]


def test_it_remembers_what_it_returned():
    def counting(context):
        count = context.policy_state.get("count", 0) + 1
        return count, {"count": count}

    assert decided(counting, times=3) == [{"replicas": 1}, {"replicas": 2}, {"replicas": 3}]


@pytest.mark.parametrize("answer", [None, "three", -1, True])
def test_what_is_no_number_of_replicas_is_an_error(answer):
    (said,) = decided(lambda context: answer)
    assert "number of replicas" in said["error"]


def test_an_exception_is_told_with_its_traceback():
    (said,) = decided(lambda context: 1 / 0)
    assert "ZeroDivisionError" in said["error"]


def test_a_policy_of_an_application_sees_all_and_decides_for_all():
    def shared(contexts):
        seen = {each.name: context.total_num_requests for each, context in contexts.items()}
        assert all(each.app_name == "app" for each in contexts)
        rounds = next(iter(contexts.values())).policy_state.get("rounds", 0) + 1
        numbers = {DeploymentID(name, "app"): sum(seen.values()) + rounds for name in seen}
        return numbers, {"rounds": rounds}

    assert decided(shared, times=2, of_application=True) == [{"replicas": 12}, {"replicas": 13}]


def test_a_policy_of_an_application_need_not_decide_for_all():
    assert decided(lambda contexts: {DeploymentID("Other", "app"): 3}, of_application=True) == [{"replicas": None}]
    (said,) = decided(lambda contexts: 3, of_application=True)
    assert "numbers by DeploymentID" in said["error"]


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
    assert asked(first) == [{"replicas": 3}, {"replicas": 3}]


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
