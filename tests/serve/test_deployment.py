"""``@serve.deployment``: section 1.3 of the modern page."""

from __future__ import annotations

import pickle

import cloudpickle
import pytest

from fairlead import serve
from fairlead.serve.config import (
    AutoscalingConfig,
    BackpressureConfig,
    DeploymentMode,
    HTTPOptions,
    ProxyLocation,
    RequestRouterConfig,
    gRPCOptions,
)
from fairlead.serve.deployment import Application, Deployment


class Model:
    pass


def test_bare_and_with_arguments():
    bare = serve.deployment(Model)
    given = serve.deployment(name="Other", num_replicas=3)(Model)
    empty = serve.deployment()(Model)
    assert all(isinstance(one, Deployment) for one in (bare, given, empty))
    assert (bare.name, given.name, empty.name) == ("Model", "Other", "Model")
    assert (bare.num_replicas, given.num_replicas) == (1, 3)
    assert bare == empty
    assert bare != given
    assert hash(bare) == hash(empty)


def test_a_deployment_that_was_not_bound_is_no_argument():
    inner, outer = serve.deployment(Model), serve.deployment(name="Outer")(Model)
    for bind in (lambda: outer.bind(inner), lambda: outer.bind(1, model=inner)):
        with pytest.raises(TypeError, match=r"`Model` is not bound: pass `Model\.bind\(\)`"):
            bind()


def test_functions():
    @serve.deployment
    async def hello(request):
        return "hello"

    assert hello.name == "hello"
    assert isinstance(hello.bind(), Application)
    with pytest.raises(ValueError, match="not supported for function deployments"):
        hello.bind(1)


def test_defaults():
    one = serve.deployment(Model)
    assert (one.max_ongoing_requests, one.max_queued_requests, one.user_config) == (5, -1, None)
    assert one.backpressure_config == BackpressureConfig(status_code=503, retry_after_s=None)
    assert (one.version, one.init_args, one.init_kwargs, one.logging_config) == (None, (), {}, None)
    settings = one.config.to_settings()
    assert (settings.num_replicas, settings.max_ongoing_requests, settings.max_queued_requests) == (1, 5, -1)
    assert (settings.graceful_shutdown_wait_loop_s, settings.graceful_shutdown_timeout_s) == (2, 20)
    assert (settings.health_check_period_s, settings.health_check_timeout_s) == (10, 30)
    assert (settings.max_constructor_retry_count, settings.backpressure_status_code) == (20, 503)
    assert not settings.HasField("backpressure_retry_after_s")
    assert settings.user_config == b""


def test_settings_travel():
    one = serve.deployment(
        user_config={"a": [1, None]}, backpressure_config={"status_code": 429, "retry_after_s": 1.5}
    )(Model)
    settings = one.config.to_settings()
    assert settings.user_config == b'{"a":[1,null]}'
    assert (settings.backpressure_status_code, settings.backpressure_retry_after_s) == (429, 1.5)


def test_calling_a_deployment():
    with pytest.raises(RuntimeError, match="cannot be constructed directly"):
        serve.deployment(Model)()


def test_options_make_a_copy():
    one = serve.deployment(num_replicas=2, max_ongoing_requests=7)(Model)
    other = one.options(name="Other", num_replicas=3)
    assert (one.name, one.num_replicas) == ("Model", 2)
    assert (other.name, other.num_replicas, other.max_ongoing_requests) == ("Other", 3, 7)
    assert one.options(func_or_class=dict).func_or_class is dict


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"num_replicas": 0}, ValueError),
        ({"num_replicas": -1}, ValueError),
        ({"num_replicas": "many"}, ValueError),
        ({"num_replicas": 2, "autoscaling_config": {"max_replicas": 3}}, ValueError),
        ({"num_replicas": 1.5}, TypeError),
        ({"max_ongoing_requests": None}, ValueError),
        ({"max_ongoing_requests": 0}, ValueError),
        ({"max_queued_requests": 0}, ValueError),
        ({"max_queued_requests": -2}, ValueError),
        ({"version": "1"}, ValueError),
        ({"name": "a#b"}, ValueError),
        ({"name": ""}, ValueError),
        ({"user_config": {"a": object()}}, ValueError),
        ({"user_config": {1, 2}}, ValueError),
        ({"backpressure_config": {"status_code": 500}}, ValueError),
        ({"backpressure_config": {"colour": 1}}, TypeError),
        ({"autoscaling_config": {"min_replicas": 3, "max_replicas": 2}}, ValueError),
        ({"autoscaling_config": 3}, TypeError),
        ({"graceful_shutdown_timeout_s": -1}, ValueError),
        ({"health_check_period_s": 0}, ValueError),
        ({"max_constructor_retry_count": 0}, ValueError),
        ({"max_replicas_per_node": 101}, ValueError),
        ({"rolling_update_percentage": 1.5}, ValueError),
        ({"max_surge_percent": 101}, ValueError),
        ({"ray_actor_options": {"colour": 1}}, ValueError),
        ({"ray_actor_options": 1}, TypeError),
        ({"ray_actor_options": {"runtime_env": "here"}}, TypeError),
        ({"ray_actor_options": {"runtime_env": {"pip": ["numpy"]}}}, ValueError),
        ({"ray_actor_options": {"runtime_env": {"env_vars": {"A": 1}}}}, TypeError),
        ({"ray_actor_options": {"runtime_env": {"env_vars": {"A=B": "1"}}}}, ValueError),
        ({"ray_actor_options": {"runtime_env": {"env_vars": {"A": "1\0"}}}}, ValueError),
        ({"colour": "red"}, TypeError),
    ],
)
def test_bad_settings(settings, error):
    with pytest.raises(error):
        serve.deployment(**settings)(Model)
    with pytest.raises(error):
        serve.deployment(Model).options(**settings)


def test_bad_targets():
    with pytest.raises(TypeError):
        serve.deployment(3)
    with pytest.raises(TypeError, match="already"):
        serve.deployment(serve.deployment(Model))
    with pytest.raises(ValueError, match="import path"):
        serve.deployment("module.Class")


def test_auto_replicas():
    one = serve.deployment(num_replicas="auto")(Model)
    assert one.autoscaling_config == AutoscalingConfig(min_replicas=1, max_replicas=100, target_ongoing_requests=2)
    given = serve.deployment(autoscaling_config={"min_replicas": 0, "max_replicas": 9, "initial_replicas": 4})(Model)
    assert (given.num_replicas, given.autoscaling_config.max_replicas) == (4, 9)
    both = serve.deployment(num_replicas="auto", autoscaling_config={"max_replicas": 5})(Model)
    assert both.autoscaling_config.max_replicas == 5
    assert given.options(num_replicas=2).autoscaling_config is None
    idle = serve.deployment(autoscaling_config={"min_replicas": 0})(Model)
    assert idle.config.to_settings().num_replicas == 0


def test_what_only_ray_has_is_accepted():
    one = serve.deployment(
        ray_actor_options={"num_cpus": 0.5, "runtime_env": {"env_vars": {"A": "b"}}},
        placement_group_bundles=[{"CPU": 1}],
        placement_group_strategy="PACK",
        max_replicas_per_node=3,
        logging_config={"log_level": "DEBUG"},
        request_router_config={"initial_backoff_s": 0.1},
    )(Model)
    assert one.ray_actor_options["num_cpus"] == 0.5
    assert one.config.request_router_config == RequestRouterConfig(initial_backoff_s=0.1)


def test_environment_variables_are_a_deployments_own():
    one = serve.deployment(ray_actor_options={"runtime_env": {"env_vars": {"A": "b"}}})(Model)
    assert one.config.variables == {"A": "b"}
    assert serve.deployment(Model).config.variables == {}
    assert one.options(ray_actor_options={"num_cpus": 1}).config.variables == {}


def test_deployments_can_be_pickled():
    one = serve.deployment(num_replicas=3)(Model)
    assert cloudpickle.loads(cloudpickle.dumps(one)).num_replicas == 3
    application = one.bind(1)
    assert pickle.loads(cloudpickle.dumps(application)).init_args == (1,)
    assert repr(application) == "Application('Model')"


# -- options of programs


def test_http_options():
    assert (HTTPOptions().host, HTTPOptions().port) == ("127.0.0.1", 8000)
    assert HTTPOptions.of({"port": 0, "location": "headonly"}).location is DeploymentMode.HeadOnly
    assert HTTPOptions().location is DeploymentMode.EveryNode
    for off in ({"host": None}, {"location": None}, {"location": "NoServer"}, {"location": "Disabled"}):
        assert HTTPOptions.of(off).location is DeploymentMode.NoServer
    assert HTTPOptions.of(None) == HTTPOptions()
    assert HTTPOptions(host=None).host is None
    assert HTTPOptions(metadata_headers=["Tenant", "a.b"]).metadata_headers == ("tenant", "a.b")
    for name in ("", "a b", "grpc-timeout", "grüße", "a\n"):
        with pytest.raises(ValueError, match="cannot be the name of metadata"):
            HTTPOptions(metadata_headers=[name])
    for bad in ({"port": 65536}, {"request_timeout_s": 0}, {"ssl_keyfile": "x"}, {"root_path": "x"}):
        with pytest.raises(ValueError):
            HTTPOptions.of(bad)
    for bad in ({"colour": 1}, 3, {"port": "80"}, {"metadata_headers": "tenant"}, {"metadata_headers": [1]}):
        with pytest.raises(TypeError):
            HTTPOptions.of(bad)
    with pytest.raises(AttributeError):
        HTTPOptions().port = 3


def test_grpc_options():
    assert (gRPCOptions().host, gRPCOptions().port, gRPCOptions().enable_reflection) == ("127.0.0.1", 9000, True)
    assert gRPCOptions.of({"grpc_servicer_functions": ["a.b"]}).grpc_servicer_functions == ("a.b",)
    with pytest.raises(TypeError):
        gRPCOptions(grpc_servicer_functions="a.b")


def test_proxy_location():
    assert ProxyLocation.of(None) is ProxyLocation.EveryNode
    assert ProxyLocation.of("NoServer") is ProxyLocation.Disabled
    assert ProxyLocation.of(ProxyLocation.HeadOnly) is ProxyLocation.HeadOnly
    with pytest.raises(ValueError, match="Disabled, HeadOnly, EveryNode"):
        ProxyLocation.of("Moon")
