"""Configuration files: what is read, and in which line what is wrong is found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fairlead.cli.build_config import build_config
from fairlead.cli.config_file import is_config_file, load_config
from fairlead.cli.errors import ConfigFileError
from fairlead.serve import deploy_schema, schema
from fairlead.serve.settings import DeploymentConfig

GOOD = """\
proxy_location: EveryNode
http_options:
  host: 127.0.0.1
  port: 8123
grpc_options: {port: 9123}
gateways: 2
applications:
  - name: one
    route_prefix: /one
    import_path: package.module:app
    args: {size: 3}
    runtime_env:
      env_vars: {FLAVOUR: vanilla}
      working_dir: /tmp
    deployments:
      - name: Echo
        num_replicas: 2
        user_config: {greeting: hello}
        autoscaling_config: null
  - name: two
    route_prefix: null
    import_path: package.module:build
"""


def load(tmp_path: Path, text: str):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_config(str(path))


def test_a_file(tmp_path):
    config = load(tmp_path, GOOD)
    one, two = config.applications
    assert (config.gateways, config.http_options["port"]) == (2, 8123)
    assert (one.name, one.route_prefix, one.args, two.route_prefix) == ("one", "/one", {"size": 3}, None)
    assert one.deployments[0].overrides == {
        "num_replicas": 2,
        "user_config": {"greeting": "hello"},
        "autoscaling_config": None,
    }


def test_every_setting_of_a_deployment_is_known(tmp_path):
    for one in dataclasses.fields(DeploymentConfig):
        found = refusal(tmp_path, f"{one.name}x: 2", old="num_replicas: 2")
        assert f"did you mean '{one.name}'?" in found


def refusal(tmp_path: Path, new: str, *, old: str) -> str:
    assert old in GOOD
    with pytest.raises(ConfigFileError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path}/config.yaml:")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gateways:", "gatewais:", "6: gatewais: unknown key 'gatewais'; did you mean 'gateways'?"),
        ("gateways: 2", "gateways: none", "6: gateways: input should be a valid integer"),
        ("gateways: 2", "gateways: 0", "6: gateways: input should be greater than or equal to 1, not 0"),
        ("  port: 8123", "  prt: 8123", "4: http_options.prt: unknown key 'prt'; did you mean 'port'?"),
        ("port: 8123", "port: 99999", "4: http_options.port: port must be"),
        ("{port: 9123}", "{ssl_certfile: c}", "5: grpc_options: Both ssl_keyfile and ssl_certfile"),
        ("EveryNode", "Nowhere", "1: proxy_location: proxy_location must be one of Disabled"),
        ("    import_path: package.module:app\n", "", "8: applications[0].import_path: 'import_path' is missing"),
        ("package.module:app", "package.module", "10: applications[0].import_path: 'package.module' is not an import"),
        ("    import_path: package.module:build", "    imprt_path: package.module:build", "'imprt_path'; did you mean"),
        ("/one", "one", "9: applications[0].route_prefix: "),
        ("name: two", "name: one", "20: applications[1].name: there are several with the application 'one'"),
        (
            "route_prefix: null",
            "route_prefix: /one",
            "21: applications[1].route_prefix: there are several with the route prefix '/one'",
        ),
        (
            "- name: Echo",
            "- name: Echo\n      - name: Echo",
            "17: applications[0].deployments[1].name: there are several",
        ),
        ("name: two", "name: a/b", "20: applications[1].name: Application name must not contain '/' or '#'"),
        (
            "autoscaling_config: null",
            "autoscaling_config:\n          max_replicas: 3\n          min_replica: 1",
            "21: applications[0].deployments[0].autoscaling_config.min_replica: AutoscalingConfig has no "
            "'min_replica'; did you mean 'min_replicas'?",
        ),
        (
            "num_replicas: 2",
            "num_replica: 2",
            "deployments[0].num_replica: unknown key 'num_replica'; did you mean 'num_",
        ),
        ("num_replicas: 2", "num_replicas: none", "17: applications[0].deployments[0].num_replicas: "),
        ("num_replicas: 2", "num_replicas: 0", "17: applications[0].deployments[0].num_replicas: "),
        ("autoscaling_config: null", "autoscaling_config: {max_replicas: 3}", "16: applications[0].deployments[0]: "),
        ("- name: Echo", "- nam: Echo", "16: applications[0].deployments[0].name: 'name' is missing"),
        ("FLAVOUR: vanilla", "FLAVOUR: 3", "13: applications[0].runtime_env.env_vars: env_vars must be a mapping"),
        ("working_dir: /tmp", "pip: [x]", "14: applications[0].runtime_env.pip: 'pip' has no effect here"),
        ("  - name: two", "  - name: two\n    name: three", "21: 'name' is there twice"),
        ("gateways: 2", "gateways: [", "it is not YAML: "),
        (
            "gateways: 2",
            "target_capacity: 101",
            "6: target_capacity: input should be less than or equal to 100, not 101",
        ),
        (
            "gateways: 2",
            "controller_options: {runtime_env: {}}",
            "6: controller_options: controller_options has no effect",
        ),
        (
            "gateways: 2",
            "tracing_config: {sampling_ratio: 2}",
            "6: tracing_config.sampling_ratio: sampling_ratio must be at most 1, not 2",
        ),
        (
            "working_dir: /tmp",
            "working_dir: /tmp\n    autoscaling_policy: {a: 1}",
            "15: applications[0].autoscaling_policy: 'policy_function' is missing",
        ),
        (
            "working_dir: /tmp",
            "working_dir: /tmp\n    autoscaling_policy:\n      policy_function: here",
            "16: applications[0].autoscaling_policy.policy_function: policy_function must be an import path",
        ),
        (
            "working_dir: /tmp",
            "working_dir: /tmp\n    autoscaling_policy:\n      policy_function: a:b\n      policy_kwarg: {}",
            "17: applications[0].autoscaling_policy.policy_kwarg: unknown key 'policy_kwarg'; did you mean",
        ),
        ("applications:", "applicatons:", "'applicatons'; did you mean 'applications'? (and 1 more)"),
    ],
)
def test_what_is_wrong_is_found_in_its_line(tmp_path, old, new, message):
    found = refusal(tmp_path, new, old=old)
    assert found.startswith(message) if message[0].isdigit() else message in found


def test_what_is_for_ray_alone_is_listed(tmp_path):
    with_them = GOOD.replace("num_replicas: 2", "ray_actor_options: {num_cpus: 1}\n        max_replicas_per_node: 3")
    assert load(tmp_path, with_them).without_effect == [
        "one/Echo: ray_actor_options",
        "one/Echo: max_replicas_per_node",
    ]
    assert load(tmp_path, GOOD).without_effect == []


def test_one_deployment_may_have_environment_variables(tmp_path):
    own = "ray_actor_options: {runtime_env: {env_vars: {A: b}}}"
    assert load(tmp_path, GOOD.replace("num_replicas: 2", own)).without_effect == []
    found = refusal(tmp_path, own.replace("env_vars", "working_dir"), old="num_replicas: 2")
    assert "17: applications[0].deployments[0].ray_actor_options: 'working_dir' in runtime_env has no effect" in found
    found = refusal(tmp_path, own.replace("A: b", "A: 3"), old="num_replicas: 2")
    assert "17: applications[0].deployments[0].ray_actor_options: env_vars must be a mapping" in found


@pytest.mark.parametrize(
    ("text", "message"),
    [("applications: &a\n- *a", "it contains itself, or is nested too deeply"), ("a\0b", "unacceptable character")],
)
def test_what_no_configuration_can_be_is_one_line(tmp_path, text, message):
    with pytest.raises(ConfigFileError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n"])
def test_a_file_of_something_else(tmp_path, text):
    with pytest.raises(ConfigFileError, match=r"config\.yaml:1: a mapping with 'applications' is expected"):
        load(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigFileError, match=r"none\.yaml cannot be read: No such file"):
        load_config(str(tmp_path / "none.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigFileError, match="not UTF-8"):
        load_config(str(tmp_path / "binary.yaml"))


def test_files_and_import_paths_are_told_apart():
    assert is_config_file("a/b.yaml")
    assert is_config_file("b.yml")
    assert not is_config_file("package.module:app")


def test_a_file_that_build_wrote_is_read(tmp_path, capsys):
    path = tmp_path / "built.yaml"
    build_config(["tests.cli.standing_app:app", "tests.cli.standing_app:scaled"], ".", path)
    one, two = load_config(str(path)).applications
    assert (one.name, one.route_prefix, one.import_path) == ("app1", "/app1", "tests.cli.standing_app:app")
    assert [(each.name, each.overrides) for each in one.deployments] == [("Counter", {"num_replicas": 1})]
    (scaled,) = two.deployments
    assert "num_replicas" not in scaled.overrides
    assert scaled.overrides["autoscaling_config"]["max_replicas"] == 7
    assert scaled.overrides["user_config"] == {"greeting": "hi"}
    assert scaled.overrides["max_ongoing_requests"] == 11
    build_config(["tests.cli.standing_app:app"], ".", None)
    assert capsys.readouterr().out.count("name: default") == 1


def test_the_schema_is_where_ray_serve_has_it():
    assert schema.ServeDeploySchema is deploy_schema.ServeDeploySchema
    assert schema.ServeApplicationSchema is deploy_schema.ServeApplicationSchema
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        schema.Nothing
