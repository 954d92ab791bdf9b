"""What classic Ray Serve refuses, and with which error."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping
from typing import Any

from fairlead.serve.backend_config import BackendConfig
from fairlead.serve.batching.accept import accepts_batch
from fairlead.serve.classic.registry import Endpoint, Registered
from fairlead.serve.routes.declaration import own_convertors

_FORBIDDEN = ("lifetime", "name", "max_restarts", "placement_group")
_NUMBERS = ("num_cpus", "num_gpus", "memory", "object_store_memory")
_TOLERANCE = 1e-5


def check_name(what: str, name: Any) -> None:
    """Raises TypeError for what is no string, ValueError for an empty one."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, not {type(name).__name__}.")
    if not name:
        raise ValueError(f"{what} must not be empty.")


def not_registered(tag: str) -> ValueError:
    """For a tag that no backend has."""
    return ValueError(f"Backend '{tag}' is not registered.")


def check_definition(definition: Any, init_args: tuple[Any, ...], config: BackendConfig) -> None:
    """Raises TypeError for what is no backend, ValueError for one that does not fit its arguments or configuration."""
    is_function = inspect.isfunction(definition) or inspect.isbuiltin(definition)
    if not (is_function or isinstance(definition, type | str)):
        raise TypeError(f"Backend must be a function, a class or an import path, it is {type(definition).__name__}.")
    if is_function and init_args:
        raise ValueError("init_args not supported for function backend.")
    check_batches(config, accepts_batches=accepts_batch(definition))


def check_batches(config: BackendConfig, *, accepts_batches: bool) -> None:
    """Raises ValueError for batches of a backend that takes none."""
    if (config.max_batch_size or 1) > 1 and not accepts_batches:
        raise ValueError(
            "max_batch_size is above 1, and the backend does not accept batches: mark it with @serve.accept_batch."
        )


def check_actor_options(options: Any) -> None:
    """Raises TypeError or ValueError for ``ray_actor_options`` that cannot be."""
    if options is None:
        return
    if not isinstance(options, Mapping):
        raise TypeError("ray_actor_options must be a dictionary.")
    for name in _FORBIDDEN:
        if name in options:
            raise ValueError(f"Specifying {name} in ray_actor_options is not allowed.")
    for name in _NUMBERS:
        value = options.get(name)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
            raise TypeError(f"{name} in ray_actor_options must be an int or a float.")
        if value is not None and value < 0:
            raise ValueError(f"{name} in ray_actor_options must be >= 0.")
    if options.get("resources") is not None and not isinstance(options["resources"], Mapping):
        raise TypeError("resources in ray_actor_options must be a dictionary.")


def checked_endpoint(backend: Any, route: Any, methods: Any) -> Endpoint:
    """The endpoint. Raises TypeError for arguments of other types, ValueError for what is no route.

    A converter that does not exist is an AssertionError, too, as in Starlette.
    """
    if backend is None:
        raise TypeError("backend must be specified when creating an endpoint.")
    if not isinstance(backend, str):
        raise TypeError(f"backend must be a string, got {type(backend).__name__}.")
    if route is not None and (not isinstance(route, str) or not route.startswith("/")):
        raise TypeError("route must be a string starting with '/'.")
    if not isinstance(methods, list) or not all(isinstance(method, str) for method in methods):
        raise TypeError(f"methods must be a list of strings, got {methods!r}.")
    convertors = {} if route is None else own_convertors(route)
    endpoint = Endpoint(
        route=route,
        methods=[method.upper() for method in methods],
        traffic={backend: 1.0},
        converters={name: convertor.regex for name, convertor in convertors.items()},
    )
    if route is not None:
        endpoint.parsed_route()
    return endpoint


def check_convertors(endpoint: Endpoint, known: Mapping[str, Registered]) -> None:
    """Raises ValueError for backends that cannot convert what the endpoint's route captures."""
    for tag in (*endpoint.traffic, *endpoint.shadows):
        missing = [name for name in endpoint.converters if name not in known[tag].convertors]
        if missing:
            raise ValueError(
                f"Backend '{tag}' cannot convert {', '.join(missing)} of the route '{endpoint.route}': it was created "
                f"before starlette.convertors.register_url_convertor said how. Register first, and create it anew."
            )


def check_new(name: str, endpoint: Endpoint, known: Mapping[str, Endpoint]) -> None:
    """Raises ValueError for an endpoint whose name or route is taken."""
    if name in known:
        raise ValueError(
            f"Endpoint '{name}' exists already. Use serve.set_traffic to change the backends that it sends requests to."
        )
    for other, there in known.items():
        if endpoint.route is not None and there.route == endpoint.route:
            raise ValueError(f"Route '{endpoint.route}' is registered already, for endpoint '{other}'.")


def check_weights(weights: Any, known: Collection[str]) -> None:
    """Raises ValueError for weights that name other backends, are negative, or do not sum up to 1."""
    if not isinstance(weights, Mapping):
        raise TypeError("Traffic must be a dictionary of backend and weight.")
    for tag, weight in weights.items():
        if tag not in known:
            raise ValueError(f"Attempted to assign traffic to a backend '{tag}' that is not registered.")
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise TypeError(f"The weight of '{tag}' must be a number, not {weight!r}.")
        if weight < 0:
            raise ValueError("Traffic weight must be non-negative.")
    if not math.isclose(sum(weights.values()), 1.0, abs_tol=_TOLERANCE):
        raise ValueError("Traffic weights must sum to 1.")


def check_proportion(proportion: Any) -> None:
    """Raises TypeError for what is no number between 0 and 1."""
    if isinstance(proportion, bool) or not isinstance(proportion, int | float) or not 0 <= proportion <= 1:
        raise TypeError("proportion must be a float from 0 to 1.")
