"""Starting an instance, and the client that one gets for it: it has the calls of the module."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

from fairlead.serve import api
from fairlead.serve.classic.backends import (
    create_backend,
    delete_backend,
    get_backend_config,
    list_backends,
    update_backend_config,
)
from fairlead.serve.classic.endpoints import (
    create_endpoint,
    delete_endpoint,
    get_handle,
    list_endpoints,
    set_traffic,
    shadow_traffic,
)
from fairlead.serve.config import HTTPOptions, ProxyLocation, gRPCOptions
from fairlead.serve.instance import Instance
from fairlead.serve.settings import DEFAULT
from fairlead.wire.errors import FairleadError

logger = logging.getLogger("fairlead.serve")


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
            return api.existing_instance() is self._instance
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
    return Client(api.existing_instance())


def connect() -> Client:
    """A client of the instance that runs. Raises FairleadError (``RayServeException``) if there is none."""
    return Client(api.existing_instance())


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
