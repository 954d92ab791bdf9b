from dataclasses import replace

from fairlead.v1 import control_pb2
from fairlead_gateway.control.desired import DeploymentGoal
from fairlead_gateway.control.scaling import Scaling, carried_over
from tests.control.application_specs import deployment
from tests.control.test_autoscaling import settings

KEY = ("app", "Echo")


def goal(num_replicas=1, scaled=None, **changes):
    spec = deployment(num_replicas=num_replicas, autoscaling=settings(**changes))
    return DeploymentGoal(application="app", spec=spec, code_version="v", scaled=scaled)


def load(ongoing=0, queued=0):
    return control_pb2.DeploymentLoad(application="app", deployment="Echo", ongoing=ongoing, queued=queued)


def test_calls_of_all_gateway_workers_count():
    scaling = Scaling()
    one = goal(upscale_delay_s=0)
    assert scaling.decide(one, 1, 0.0).target == 1
    scaling.note("gateway-0", [load(ongoing=5, queued=2)], 1.0)
    scaling.note("gateway-1", [load(ongoing=1)], 1.0)
    assert (scaling.calls(KEY), scaling.waiting(KEY)) == (8, 2)
    assert scaling.decide(one, 1, 1000.0).target == 4
    scaling.lost("gateway-0")
    assert scaling.calls(KEY) == 1
    scaling.note("gateway-1", [], 1001.0)
    assert scaling.calls(KEY) == 0


def test_only_a_call_for_what_sleeps_is_urgent():
    scaling = Scaling()
    asleep = scaling.decide(goal(num_replicas=0, min_replicas=0), 0, 0.0)
    assert asleep.target == 0
    assert not scaling.note("gateway-0", [], 1.0)
    assert scaling.note("gateway-0", [load(queued=1)], 2.0)
    assert scaling.decide(asleep, 0, 2.0).target == 1
    assert not scaling.note("gateway-0", [load(queued=2)], 3.0)


def test_a_fixed_number_is_left_alone():
    scaling = Scaling()
    scaling.decide(goal(), 1, 0.0)
    fixed = DeploymentGoal(application="app", spec=deployment(num_replicas=3), code_version="v")
    assert scaling.decide(fixed, 3, 1.0) is fixed
    assert not scaling


def test_a_new_goal_goes_on_with_the_replicas_that_there_are():
    assert carried_over(goal(), goal(scaled=7)).target == 7
    assert carried_over(goal(max_replicas=5), goal(scaled=7)).target == 5
    assert carried_over(goal(), None).target == 1
    fixed = DeploymentGoal(application="app", spec=deployment(num_replicas=3), code_version="v")
    assert carried_over(goal(), fixed).target == 3
    assert carried_over(fixed, goal(scaled=7)).target == 3


def test_a_policy_is_asked_now_and_then():
    scaling = Scaling()
    mine = goal(policy_import_path="app:policy", upscale_delay_s=0)
    mine = replace(mine, environment=control_pb2.CodeEnvironment(working_directory="/here"))
    running = {"Echo": ["r1"]}.__getitem__
    assert scaling.question(mine, running, 0.0) is None, "before the first decision"
    scaling.decide(mine, 1, 0.0)
    scaling.note("gateway-0", [load(ongoing=3, queued=1)], 0.0)
    question = scaling.question(mine, running, 0.0)
    assert question.environment.working_directory == "/here"
    assert question.contexts["Echo"]["total_num_requests"] == 4
    assert question.contexts["Echo"]["total_queued_requests"] == 1
    assert question.contexts["Echo"]["running_replicas"] == ["r1"]
    assert scaling.question(mine, running, 0.1) is None
    assert scaling.question(mine, running, 1.0) is not None
    assert not scaling.answered(KEY, {"Echo": 3}, "")
    assert scaling.decide(mine, 1, 1.0).target == 3
    assert scaling.answered(KEY, {}, "it is broken")
    assert not scaling.answered(KEY, {}, "it is broken"), "no news"
    assert scaling.decide(mine, 1, 2.0).target == 3
    assert "it is broken" in scaling.failure(KEY)
    scaling.answered(KEY, {"Echo": 2}, "")
    assert scaling.failure(KEY) == ""


def test_a_policy_of_the_application_is_told_of_all_that_scale_in_one_question():
    scaling = Scaling()
    shared = {"policy_import_path": "app:policy", "application_policy": True, "upscale_delay_s": 0}
    one, two = goal(**shared), goal(**shared)
    two.spec.name = "Two"
    fixed = DeploymentGoal(application="app", spec=deployment(name="Fixed"), code_version="v")
    elsewhere = replace(goal(**shared), application="other")
    for each in (one, two, fixed, elsewhere):
        scaling.decide(each, 1, 0.0)
    scaling.note("gateway-0", [load(ongoing=3, queued=1)], 0.0)
    question = scaling.question(one, {"Echo": ["r1"], "Two": ["r2", "r3"]}.__getitem__, 0.0)
    assert {name: context["current_num_replicas"] for name, context in question.contexts.items()} == {
        "Echo": 1,
        "Two": 2,
    }
    assert [context["total_num_requests"] for context in question.contexts.values()] == [4, 0]
    assert scaling.question(two, {}.__getitem__, 0.0) is None, "it was asked for all"
    assert scaling.policies == {question.key, ("other", None)}
    assert question.key == ("app", None)
    scaling.answered(question.key, {"Echo": 2}, "")
    assert [scaling.decide(each, 1, 60.0).target for each in (one, two)] == [2, 1]
    scaling.answered(question.key, {}, "it is broken")
    assert scaling.failure(("app", "Two")) == scaling.failure(KEY) != ""
    assert scaling.failure(("other", "Echo")) == ""
