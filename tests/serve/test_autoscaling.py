import pickle
import re

import pytest

from fairlead import serve
from fairlead.serve.autoscaling import autoscaling_settings
from fairlead.serve.config import AutoscalingConfig, AutoscalingPolicy
from fairlead.serve.graph import application_spec
from fairlead.v1 import control_pb2


def by_the_hour(context, *, at_night):
    return at_night


class Model:
    def __call__(self):
        return 1


def test_the_defaults_are_ray_serves():
    settings = autoscaling_settings(AutoscalingConfig())
    assert (settings.min_replicas, settings.max_replicas, settings.target_ongoing_requests) == (1, 1, 2)
    assert (settings.look_back_period_s, settings.upscale_delay_s) == (30, 30)
    assert (settings.downscale_delay_s, settings.downscale_to_zero_delay_s) == (600, 600)
    assert (settings.upscaling_factor, settings.downscaling_factor) == (1, 1)
    assert settings.aggregation == control_pb2.LOAD_AGGREGATION_MEAN
    assert settings.WhichOneof("policy") is None


def test_the_deprecated_smoothing_factor_fills_in():
    settings = autoscaling_settings(AutoscalingConfig(smoothing_factor=0.5, upscaling_factor=2))
    assert (settings.upscaling_factor, settings.downscaling_factor) == (2, 0.5)


def test_the_last_replica_may_have_a_delay_of_its_own():
    settings = autoscaling_settings(
        AutoscalingConfig(min_replicas=0, downscale_delay_s=60, downscale_to_zero_delay_s=5)
    )
    assert (settings.downscale_delay_s, settings.downscale_to_zero_delay_s) == (60, 5)


def test_a_policy_by_import_path_and_by_value():
    for policy in (by_the_hour, f"{__name__}:by_the_hour", AutoscalingPolicy(policy_function=by_the_hour)):
        settings = autoscaling_settings(AutoscalingConfig(policy=policy))
        assert settings.policy_import_path == f"{__name__}:by_the_hour"
    settings = autoscaling_settings(
        AutoscalingConfig(policy={"policy_function": lambda _: 3, "policy_kwargs": {"a": 1}})
    )
    assert pickle.loads(settings.pickled_policy)(None) == 3
    assert pickle.loads(settings.policy_arguments) == {"a": 1}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.rules:policy", "policy_function: there is no module 'nowhere.rules'"),
        ("fairlead.serve:rule.policy", "policy_function: module 'fairlead.serve' has no 'rule.policy'"),
        ("fairlead.serve:__name__", "policy_function: 'fairlead.serve:__name__' is no function"),
    ],
)
def test_a_policy_that_cannot_be_imported_is_refused_before_anything_is_deployed(path, said):
    config = AutoscalingConfig(policy=path)
    with pytest.raises(ValueError, match=re.escape(said)):
        autoscaling_settings(config)


def test_a_policy_whose_module_fails_is_refused_with_the_place(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "failing_rules.py").write_text("def rule(context): return 1\nraise OSError('in two\\nlines')\n")
    with pytest.raises(ValueError, match=r"importing 'failing_rules' failed: OSError: in two lines \(.*, line 2\)$"):
        autoscaling_settings(AutoscalingConfig(policy="failing_rules:rule"))


def test_a_policy_is_another_one_when_its_file_has_changed(tmp_path, monkeypatch):
    file = tmp_path / "rules.py"
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest(source):
        file.write_text(source)
        return autoscaling_settings(AutoscalingConfig(policy="rules:by_rule")).policy_digest

    first = digest("def by_rule(context): return 1")
    assert first == digest("def by_rule(context): return 1") != ""
    assert first != digest("def by_rule(context): return 2")


@pytest.mark.parametrize(
    ("policy", "error"),
    [("no_colon", ValueError), (3, TypeError), ({"policy_function": 3}, TypeError), ({"function": "a:b"}, TypeError)],
)
def test_policies_that_cannot_be(policy, error):
    with pytest.raises(error):
        AutoscalingConfig(policy=policy)


def test_an_application_carries_it():
    app = serve.deployment(autoscaling_config={"min_replicas": 0, "max_replicas": 3})(Model).bind()
    (spec,) = application_spec(app).deployments
    assert spec.settings.num_replicas == 0
    assert spec.settings.autoscaling.max_replicas == 3
    fixed = serve.deployment(num_replicas=2, rolling_update_percentage=0.5, max_surge_percent=20)(Model).bind()
    (spec,) = application_spec(fixed).deployments
    assert not spec.settings.HasField("autoscaling")
    assert (spec.settings.rolling_update_percentage, spec.settings.max_surge_percent) == (0.5, 20)
