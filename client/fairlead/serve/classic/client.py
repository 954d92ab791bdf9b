"""The calls that manage backends and endpoints, as functions and as methods of the client that ``serve.start`` gives.

They change one thing at a time and return when it counts. Threads wait for each other; of two programs that change
endpoints at the same moment one may overwrite the other's change, or fail.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, ParamSpec, TypeVar, overload

from fairlead.serve import api
from fairlead.serve.app_handles import tells_names
from fairlead.serve.backend_config import BackendConfig, is_asynchronous
from fairlead.serve.batching.accept import accepts_batch
from fairlead.serve.classic import checks, registry
from fairlead.serve.classic.backend import Backend
from fairlead.serve.classic.handle import APPLICATION, RayServeHandle, RayServeSyncHandle
from fairlead.serve.classic.registry import Endpoint, Registered
from fairlead.serve.config import HTTPOptions, ProxyLocation, gRPCOptions
from fairlead.serve.context import BACKEND
from fairlead.serve.deployment import deployment
from fairlead.serve.graph import application_spec
from fairlead.serve.instance import Instance
from fairlead.serve.routes.declaration import registered_convertors
from fairlead.serve.settings import DEFAULT
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError

logger = logging.getLogger("fairlead.serve")

_P = ParamSpec("_P")
_R = TypeVar("_R")
_turn = threading.Lock()


def _in_turn(change: Callable[_P, _R]) -> Callable[_P, _R]:
    """For what reads what there is, and writes it changed: one thread of this program at a time."""

    @functools.wraps(change)
    def changed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _turn:
            return change(*args, **kwargs)

    return changed


class Client:
    """An instance, with the same calls as the module, which are deprecated here.

    Cannot be pickled: use ``serve.connect()`` elsewhere.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def __reduce__(self) -> tuple[Any, ...]:
        raise FairleadError("Ray Serve client cannot be serialized. Use serve.connect() instead.")

    def __getattr__(self, name: str) -> Any:
        function = _CALLS.get(name)
        if function is None:
            raise AttributeError(f"the client has no {name!r}; it has {', '.join(_CALLS)}")
        if not self._in_use():
            raise FairleadError("Client has already been shut down.")
        logger.warning("client.%s is deprecated: use serve.%s.", name, name)
        return function

    def shutdown(self) -> None:
        """As ``serve.shutdown()``, for this instance."""
        if self._in_use():
            api.shutdown()

    def _in_use(self) -> bool:
        try:
            return _instance() is self._instance
        except FairleadError:
            return False


def start(
    proxy_location: ProxyLocation | str | None = None,
    http_options: HTTPOptions | Mapping[str, Any] | None = None,
    grpc_options: gRPCOptions | Mapping[str, Any] | None = None,
    logging_config: Any = None,
    tracing_config: Any = None,
    controller_options: Any = None,
    *,
    detached: bool = False,
    insecure: bool = False,
    gateways: int = 1,
    http_host: str | DEFAULT | None = DEFAULT.VALUE,
    http_port: int | DEFAULT = DEFAULT.VALUE,
    http_middlewares: list[Any] | DEFAULT = DEFAULT.VALUE,
    **options: Any,
) -> Client:
    """Starts an instance as :func:`fairlead.serve.api.start` does, and gives a client for it.

    ``http_host``, ``http_port`` and ``http_middlewares`` are deprecated: ``http_options`` has them. Raises ValueError
    if both are given, and what ``api.start`` raises.
    """
    old = {"host": http_host, "port": http_port, "middlewares": http_middlewares}
    given = {name: value for name, value in old.items() if not isinstance(value, DEFAULT)}
    if given:
        if http_options is not None:
            raise ValueError("http_host, http_port and http_middlewares cannot be given together with http_options.")
        what = "http_host, http_port and http_middlewares are deprecated: use http_options."
        warnings.warn(what, DeprecationWarning, stacklevel=2)
        http_options = given
    api.start(
        proxy_location,
        http_options,
        grpc_options,
        logging_config,
        tracing_config,
        controller_options,
        detached=detached,
        insecure=insecure,
        gateways=gateways,
        **options,
    )
    return Client(_instance())


def connect() -> Client:
    """A client of the instance that runs. Raises FairleadError (``RayServeException``) if there is none."""
    return Client(_instance())


# -- backends


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
    if backend_tag in registry.backends(_instance()):
        raise ValueError(f"Backend '{backend_tag}' is registered already.")
    _deploy(backend_tag, backend_def, init_args, settings, (ray_actor_options or {}).get("runtime_env"))


@_in_turn
def update_backend_config(backend_tag: str, config_options: BackendConfig | Mapping[str, Any]) -> None:
    """Changes those fields of a backend's configuration that are set here. Nothing restarts for it.

    Raises TypeError for another kind of configuration, ValueError for an unknown tag or bad values, RuntimeError if a
    replica could not take it: then it has what it had before.
    """
    if not isinstance(config_options, BackendConfig | Mapping):
        raise TypeError("config_options must be a BackendConfig or a dictionary.")
    change = BackendConfig.of(config_options)
    application = f"{BACKEND}{backend_tag}"
    found = [one.spec for one in _instance().configs(specs=True) if one.application == application]
    if not found:
        raise _not_registered(backend_tag)
    (spec,) = found
    before = control_pb2.ApplicationSpec()
    before.CopyFrom(spec)
    known = registry.registered(spec.config)
    wanted = replace(known, config=known.config.updated(change))
    checks.check_batches(wanted.config, accepts_batches=wanted.accepts_batches)
    _set(spec, wanted)
    try:
        api.deploy_specs([spec])
    except RuntimeError:
        api.deploy_specs([before])
        raise


def get_backend_config(backend_tag: str) -> BackendConfig:
    """A backend's configuration. Raises ValueError for an unknown tag."""
    found = list_backends().get(backend_tag)
    if found is None:
        raise _not_registered(backend_tag)
    return found


def list_backends() -> dict[str, BackendConfig]:
    """The configurations of all backends by tag."""
    return {tag: known.config for tag, known in registry.backends(_instance()).items()}


def delete_backend(backend_tag: str, force: bool = False) -> None:
    """Ends a backend's replicas; with ``force`` at once, and calls under way are lost.

    Raises ValueError while an endpoint uses it, and for an unknown tag.
    """
    instance = _instance()
    if backend_tag not in registry.backends(instance):
        raise _not_registered(backend_tag)
    for name, endpoint in registry.endpoints(instance).items():
        if backend_tag in endpoint.traffic or backend_tag in endpoint.shadows:
            raise ValueError(
                f"Backend '{backend_tag}' is used by endpoint '{name}' and cannot be deleted. Delete the endpoint, or "
                f"send its traffic elsewhere."
            )
    instance.delete(f"{BACKEND}{backend_tag}", force=force)


# -- endpoints


@_in_turn
def create_endpoint(
    endpoint_name: str,
    *,
    backend: str | None = None,
    route: str | None = None,
    methods: list[str] = ["GET"],  # noqa: B006 - Ray Serve's signature; it is not changed
) -> None:
    """Makes a backend callable by handles and, with a route, over HTTP; returns when it is.

    Raises TypeError or ValueError for arguments that make no sense, unknown backends, names and routes that are taken.
    """
    checks.check_name("endpoint_name", endpoint_name)
    endpoint = checks.checked_endpoint(backend, route, methods)
    instance = _instance()
    backends = registry.backends(instance)
    if backend not in backends:
        raise ValueError(f"Backend '{backend}' is not registered. Create it with serve.create_backend first.")
    checks.check_convertors(endpoint, backends)
    known = registry.endpoints(instance)
    checks.check_new(endpoint_name, endpoint, known)
    registry.deploy_endpoints(instance, {**known, endpoint_name: endpoint}, (endpoint_name,))


@_in_turn
def delete_endpoint(endpoint: str) -> None:
    """Takes an endpoint away; its backends stay. An unknown one is no error."""
    instance = _instance()
    known = registry.endpoints(instance)
    if known.pop(endpoint, None) is not None:
        registry.deploy_endpoints(instance, known)
        if known:  # else its policy has gone with the application
            instance.set_traffic(APPLICATION, control_pb2.TrafficPolicy(name=endpoint))


def list_endpoints() -> dict[str, dict[str, Any]]:
    """Route, methods, traffic and shadows of all endpoints by name."""
    return {name: endpoint.as_listed() for name, endpoint in registry.endpoints(_instance()).items()}


@_in_turn
def set_traffic(endpoint_name: str, traffic_policy_dictionary: Mapping[str, float]) -> None:
    """Spreads an endpoint's calls over backends by weight, in the place of what was said before, shadows included.

    Raises ValueError for unknown names, and for weights that are negative or do not sum up to 1.
    """
    instance = _instance()
    backends = registry.backends(instance)
    checks.check_weights(traffic_policy_dictionary, backends)
    known = _known(instance, endpoint_name)
    known[endpoint_name].traffic = dict(traffic_policy_dictionary)
    known[endpoint_name].shadows = {}
    checks.check_convertors(known[endpoint_name], backends)
    registry.deploy_endpoints(instance, known, (endpoint_name,))


@_in_turn
def shadow_traffic(endpoint_name: str, backend_tag: str, proportion: float) -> None:
    """Sends copies of a part of an endpoint's calls to a backend too, whose answers nobody gets; 0: no more.

    Raises TypeError for what is no number between 0 and 1, ValueError for unknown names.
    """
    checks.check_proportion(proportion)
    instance = _instance()
    backends = registry.backends(instance)
    if backend_tag not in backends:
        raise _not_registered(backend_tag)
    known = _known(instance, endpoint_name)
    if proportion or backend_tag not in known[endpoint_name].shadows:
        known[endpoint_name].shadows[backend_tag] = proportion
    else:
        del known[endpoint_name].shadows[backend_tag]
    checks.check_convertors(known[endpoint_name], backends)
    registry.deploy_endpoints(instance, known, (endpoint_name,))


@overload
def get_handle(endpoint_name: str, missing_ok: bool = ..., sync: Literal[True] = ...) -> RayServeSyncHandle: ...
@overload
def get_handle(endpoint_name: str, missing_ok: bool = ..., *, sync: Literal[False]) -> RayServeHandle: ...
def get_handle(endpoint_name: str, missing_ok: bool = False, sync: bool = True) -> RayServeSyncHandle | RayServeHandle:
    """A handle to an endpoint. With ``sync=False`` its calls are awaited for their responses.

    Raises KeyError for an unknown endpoint; with ``missing_ok`` calls wait until it is there instead. Where
    ``FAIRLEAD_ADDRESS`` names a gateway's port, and while a standing instance's controller is away, whether it exists
    is found out by the first call.
    """
    instance = _instance()
    known = not tells_names(instance) or endpoint_name in registry.endpoints(instance)
    if not known and not missing_ok:
        raise KeyError(f"Endpoint '{endpoint_name}' does not exist.")
    _warn_of_the_wrong_kind(sync)
    wait_for = None if known else _wait_for_endpoint
    kind = RayServeSyncHandle if sync else RayServeHandle
    return kind(endpoint_name, wait_for=wait_for)


# -- parts


def _instance() -> Instance:
    return api.existing_instance()


def _known(instance: Instance, name: str) -> dict[str, Endpoint]:
    known = registry.endpoints(instance)
    if name not in known:
        raise ValueError(f"Endpoint '{name}' is not registered.")
    return known


def _not_registered(tag: str) -> ValueError:
    return ValueError(f"Backend '{tag}' is not registered.")


def _deploy(tag: str, definition: Any, init_args: tuple[Any, ...], config: BackendConfig, environment: Any) -> None:
    hosted = deployment(name=tag, ray_actor_options={"runtime_env": environment})(Backend)
    convertors = registered_convertors()
    application = hosted.bind(definition, init_args, convertors)
    spec = application_spec(application, name=f"{BACKEND}{tag}", route_prefix=None, caller="serve.create_backend")
    spec.deployments[0].ClearField("interface")  # its requests come by its endpoints' routes
    _set(spec, Registered(config=config, accepts_batches=accepts_batch(definition), convertors=list(convertors)))
    try:
        api.deploy_specs([spec])
    except BaseException:
        _instance().delete(spec.name)
        raise


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


def _wait_for_endpoint(name: str) -> None:
    instance = _instance()
    if name in registry.endpoints(instance):
        return
    for _ in instance.statuses():
        if name in registry.endpoints(instance):
            return
    raise FairleadError(f"the instance ended before there was an endpoint '{name}'")


def _warn_of_the_wrong_kind(sync: bool) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if not sync:
            logger.warning("You are retrieving an async handle outside of an asyncio loop. Use sync=True there.")
    else:
        if sync:
            logger.warning("You are retrieving a sync handle inside an asyncio loop. Use sync=False for more speed.")


_CALLS = {
    function.__name__: function
    for function in (
        create_backend,
        create_endpoint,
        delete_backend,
        delete_endpoint,
        get_backend_config,
        get_handle,
        list_backends,
        list_endpoints,
        set_traffic,
        shadow_traffic,
        update_backend_config,
    )
}
