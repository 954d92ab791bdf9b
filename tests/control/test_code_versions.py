"""Which deploys are of other code."""

from __future__ import annotations

from typing import Any

from fairlead.v1 import control_pb2
from fairlead_gateway.control.desired import DesiredState, deployment_goals
from tests.control.application_specs import application, deployment


def version(**parts: Any) -> str:
    spec = deployment()
    spec.MergeFrom(control_pb2.DeploymentSpec(**parts))
    return deployment_goals(application(spec))[spec.name].code_version


def test_pickles_are_told_apart_by_what_they_mean_if_that_is_known() -> None:
    assert version(pickled_code=b"one", pickled_digest="d") == version(pickled_code=b"another", pickled_digest="d")
    assert version(init_arguments=b"one", pickled_digest="d") == version(init_arguments=b"another", pickled_digest="d")
    assert version(pickled_code=b"one", pickled_digest="d") != version(pickled_code=b"one", pickled_digest="e")


def test_settings_keep_pickles_that_mean_the_same() -> None:
    def spec(made: bytes, digest: str, name: str = "default") -> control_pb2.ApplicationSpec:
        one = deployment(autoscaling=control_pb2.AutoscalingSettings(max_replicas=9, target_ongoing_requests=1))
        one.settings.autoscaling.MergeFrom(
            control_pb2.AutoscalingSettings(pickled_policy=made, policy_arguments=made, policy_digest=digest)
        )
        one.settings.request_router.MergeFrom(
            control_pb2.RequestRouterSettings(pickled_class=made, arguments=made, digest=digest)
        )
        return application(one, name=name, route_prefix=None)

    def kept(made: bytes, digest: str, name: str = "default") -> set[bytes]:
        settings = desired.deploy(spec(made, digest, name), 0.0).deployments["Echo"].spec.settings
        scaling, router = settings.autoscaling, settings.request_router
        return {scaling.pickled_policy, scaling.policy_arguments, router.pickled_class, router.arguments}

    desired = DesiredState()
    assert kept(b"first", "a") == {b"first"}
    assert kept(b"second", "a") == {b"first"}
    assert kept(b"third", "b") == {b"third"}
    assert kept(b"fourth", "") == {b"fourth"}
    assert kept(b"fifth", "") == {b"fifth"}
    assert kept(b"sixth", "", "other") == {b"sixth"}


def test_environment_variables_of_a_deployment_join_those_of_its_application() -> None:
    one, two = deployment(name="One"), deployment(name="Two")
    one.variables.update({"A": "one", "B": "one"})
    spec = application(one, two)
    spec.environment.variables.update({"A": "all", "C": "all"})
    before = deployment_goals(spec)
    assert before["One"].environment.variables == {"A": "one", "B": "one", "C": "all"}
    assert before["Two"].environment.variables == {"A": "all", "C": "all"}
    spec.deployments[0].variables["B"] = "another"
    after = deployment_goals(spec)
    assert before["One"].code_version != after["One"].code_version
    assert before["Two"].code_version == after["Two"].code_version


def test_pickles_of_unknown_meaning_are_told_apart_by_their_bytes() -> None:
    found = (version(pickled_code=code, init_arguments=args) for code in (b"", b"a") for args in (b"", b"b", b"ab"))
    assert len(set(found)) == 6
