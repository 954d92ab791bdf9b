"""The calls that manage backends: they change one thing at a time and return when it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fairlead.serve import api
from fairlead.serve.backend_config import BackendConfig, is_asynchronous
from fairlead.serve.batching.accept import accepts_batch
from fairlead.serve.classic import checks, registry
from fairlead.serve.classic.backend import Backend
from fairlead.serve.classic.registry import Registered
from fairlead.serve.classic.turns import in_turn
from fairlead.serve.context import BACKEND
from fairlead.serve.deployment import deployment
from fairlead.serve.graph import application_spec
from fairlead.serve.routes.declaration import registered_convertors
from fairlead.v1 import control_pb2
from fairlead.wire.errors import ChangedMeanwhileError


def create_backend(
    backend_tag: str,
    backend_def: Any,
    *init_args: Any,
    ray_actor_options: Mapping[str, Any] | None = None,
    config: BackendConfig | Mapping[str, Any] | None = None,
) -> None:
    """Starts the replicas of a function or a class under a tag; returns when they run.

    Raises TypeError or ValueError for arguments that make no sense or a tag that is taken, RuntimeError if the
    replicas cannot start.
    """
    checks.check_name("backend_tag", backend_tag)
    settings = BackendConfig.of(config, asynchronous=is_asynchronous(backend_def))
    checks.check_actor_options(ray_actor_options)
    checks.check_definition(backend_def, init_args, settings)
    if backend_tag in registry.backends(api.existing_instance()):
        raise _taken(backend_tag)
    _deploy(backend_tag, backend_def, init_args, settings, (ray_actor_options or {}).get("runtime_env"))


@in_turn
def update_backend_config(backend_tag: str, config_options: BackendConfig | Mapping[str, Any]) -> None:
    """Changes those fields of a backend's configuration that are set here. Nothing restarts for it.

    Raises TypeError for another kind of configuration, ValueError for an unknown tag or bad values, RuntimeError if a
    replica could not take it: then it has what it had before.
    """
    if not isinstance(config_options, BackendConfig | Mapping):
        raise TypeError("config_options must be a BackendConfig or a dictionary.")
    change = BackendConfig.of(config_options)
    application = f"{BACKEND}{backend_tag}"
    found = [one for one in api.existing_instance().configs(specs=True) if one.application == application]
    if not found or not found[0].generation:
        raise checks.not_registered(backend_tag)
    spec, generation = found[0].spec, found[0].generation
    before = control_pb2.ApplicationSpec()
    before.CopyFrom(spec)
    known = registry.registered(spec.config)
    wanted = replace(known, config=known.config.updated(change))
    checks.check_batches(wanted.config, accepts_batches=wanted.accepts_batches)
    _set(spec, wanted)
    try:
        api.deploy_change(spec, generation)
    except RuntimeError:
        api.deploy_specs([before])
        raise


def get_backend_config(backend_tag: str) -> BackendConfig:
    """A backend's configuration. Raises ValueError for an unknown tag."""
    found = list_backends().get(backend_tag)
    if found is None:
        raise checks.not_registered(backend_tag)
    return found


def list_backends() -> dict[str, BackendConfig]:
    """The configurations of all backends by tag."""
    return {tag: known.config for tag, known in registry.backends(api.existing_instance()).items()}


def delete_backend(backend_tag: str, force: bool = False) -> None:
    """Ends a backend's replicas; with ``force`` at once, and calls under way are lost.

    Raises ValueError while an endpoint uses it, and for an unknown tag.
    """
    instance = api.existing_instance()
    if backend_tag not in registry.backends(instance):
        raise checks.not_registered(backend_tag)
    for name, endpoint in registry.endpoints(instance).items():
        if backend_tag in endpoint.traffic or backend_tag in endpoint.shadows:
            raise ValueError(
                f"Backend '{backend_tag}' is used by endpoint '{name}' and cannot be deleted. Delete the endpoint, or "
                f"send its traffic elsewhere."
            )
    instance.delete(f"{BACKEND}{backend_tag}", force=force)


def _deploy(tag: str, definition: Any, init_args: tuple[Any, ...], config: BackendConfig, environment: Any) -> None:
    hosted = deployment(name=tag, ray_actor_options={"runtime_env": environment})(Backend)
    convertors = registered_convertors()
    application = hosted.bind(definition, init_args, convertors)
    spec = application_spec(application, name=f"{BACKEND}{tag}", route_prefix=None, caller="serve.create_backend")
    spec.deployments[0].ClearField("interface")  # its requests come by its endpoints' routes
    _set(spec, Registered(config=config, accepts_batches=accepts_batch(definition), convertors=list(convertors)))
    try:
        api.deploy_change(spec, 0)
    except ChangedMeanwhileError:
        raise _taken(tag) from None
    except BaseException:
        api.existing_instance().delete(spec.name)
        raise


def _taken(tag: str) -> ValueError:
    return ValueError(f"Backend '{tag}' is registered already.")


def _set(spec: control_pb2.ApplicationSpec, backend: Registered) -> None:
    import orjson

    spec.config = backend.encoded()
    config, settings = backend.config, spec.deployments[0].settings
    settings.num_replicas = config.num_replicas
    settings.max_ongoing_requests = config.concurrency
    settings.graceful_shutdown_wait_loop_s = config.experimental_graceful_shutdown_wait_loop_s
    settings.graceful_shutdown_timeout_s = config.experimental_graceful_shutdown_timeout_s
    values = config.values()
    wanted = {name: values[name] for name in ("max_batch_size", "batch_wait_timeout", "user_config")}
    settings.user_config = orjson.dumps({**wanted, "threads": config.concurrency})
