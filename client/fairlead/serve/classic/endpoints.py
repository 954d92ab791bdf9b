"""The calls that manage endpoints, and their handles.

They change one thing at a time and return when it counts. Threads wait for each other; a program whose change another
one forestalls reads again and repeats it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Literal, overload

from fairlead.serve import api
from fairlead.serve.app_handles import tells_names
from fairlead.serve.classic import checks, registry
from fairlead.serve.classic.handle import RayServeHandle, RayServeSyncHandle
from fairlead.serve.classic.registry import Endpoints
from fairlead.serve.classic.turns import in_turn
from fairlead.serve.instance import Instance
from fairlead.wire.errors import FairleadError

logger = logging.getLogger("fairlead.serve")


@in_turn
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
    instance = api.existing_instance()
    backends = registry.backends(instance)
    if backend not in backends:
        raise ValueError(f"Backend '{backend}' is not registered. Create it with serve.create_backend first.")
    checks.check_convertors(endpoint, backends)
    known = registry.endpoints(instance)
    checks.check_new(endpoint_name, endpoint, known)
    known[endpoint_name] = endpoint
    registry.deploy_endpoints(instance, known, endpoint_name)


@in_turn
def delete_endpoint(endpoint: str) -> None:
    """Takes an endpoint away; its backends stay. An unknown one is no error."""
    instance = api.existing_instance()
    known = registry.endpoints(instance)
    if known.pop(endpoint, None) is not None:
        registry.deploy_endpoints(instance, known, endpoint)


def list_endpoints() -> dict[str, dict[str, Any]]:
    """Route, methods, traffic and shadows of all endpoints by name."""
    return {name: endpoint.as_listed() for name, endpoint in registry.endpoints(api.existing_instance()).items()}


@in_turn
def set_traffic(endpoint_name: str, traffic_policy_dictionary: Mapping[str, float]) -> None:
    """Spreads an endpoint's calls over backends by weight, in the place of what was said before, shadows included.

    Raises ValueError for unknown names, and for weights that are negative or do not sum up to 1.
    """
    instance = api.existing_instance()
    backends = registry.backends(instance)
    checks.check_weights(traffic_policy_dictionary, backends)
    known = _known(instance, endpoint_name)
    known[endpoint_name].traffic = dict(traffic_policy_dictionary)
    known[endpoint_name].shadows = {}
    checks.check_convertors(known[endpoint_name], backends)
    registry.deploy_endpoints(instance, known, endpoint_name)


@in_turn
def shadow_traffic(endpoint_name: str, backend_tag: str, proportion: float) -> None:
    """Sends copies of a part of an endpoint's calls to a backend too, whose answers nobody gets; 0: no more.

    Raises TypeError for what is no number between 0 and 1, ValueError for unknown names.
    """
    checks.check_proportion(proportion)
    instance = api.existing_instance()
    backends = registry.backends(instance)
    if backend_tag not in backends:
        raise checks.not_registered(backend_tag)
    known = _known(instance, endpoint_name)
    if proportion or backend_tag not in known[endpoint_name].shadows:
        known[endpoint_name].shadows[backend_tag] = proportion
    else:
        del known[endpoint_name].shadows[backend_tag]
    checks.check_convertors(known[endpoint_name], backends)
    registry.deploy_endpoints(instance, known, endpoint_name)


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
    instance = api.existing_instance()
    known = not tells_names(instance) or endpoint_name in registry.endpoints(instance)
    if not known and not missing_ok:
        raise KeyError(f"Endpoint '{endpoint_name}' does not exist.")
    _warn_of_the_wrong_kind(sync)
    wait_for = None if known else _wait_for_endpoint
    kind = RayServeSyncHandle if sync else RayServeHandle
    return kind(endpoint_name, wait_for=wait_for)


def _known(instance: Instance, name: str) -> Endpoints:
    known = registry.endpoints(instance)
    if name not in known:
        raise ValueError(f"Endpoint '{name}' is not registered.")
    return known


def _wait_for_endpoint(name: str) -> None:
    instance = api.existing_instance()
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
