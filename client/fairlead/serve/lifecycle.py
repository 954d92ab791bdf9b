"""Starting and ending instances: ``serve.start``, ``serve.shutdown``, and waiting for the end.

All functions block, and may be called from several threads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from fairlead.serve import environment, standing
from fairlead.serve.config import HTTPOptions, ProxyLocation, gRPCOptions
from fairlead.serve.doors import Doors
from fairlead.serve.instance import Instance
from fairlead.serve.instance_in_use import current
from fairlead.serve.logs import LoggingConfig
from fairlead.serve.termination import Terminated, terminable
from fairlead.serve.tracing_config import TracingConfig
from fairlead.serve.unsupported import check_controller_options
from fairlead.wire.errors import FairleadError

logger = logging.getLogger("fairlead.serve")


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
    **options: Any,
) -> None:
    """Starts an instance that ends with this process, and waits until it can be called. Nothing happens if one runs.

    ``detached``: a standing instance instead, which belongs to no process and ends by ``serve.shutdown()``.
    ``gateways``: how many gateway workers share the ports.

    ``proxy_location="Disabled"``: no ports, handles only. ``port`` 0 in either options: any free port, told by
    ``fairlead.serve.api.instance_status()``. If ``FAIRLEAD_TOKEN`` is set, callers of both ports have to present it.
    ``insecure``: ports that other hosts can reach may be open without TLS and authentication. Further options are those
    of ``http_options``. ``logging_config``: how gateway workers log, a ``LoggingConfig`` or its fields in a dictionary.
    ``tracing_config``: how its programs trace, a ``TracingConfig`` or its fields. ``controller_options`` are refused:
    the environment that it is started with says them.

    Raises TypeError or ValueError for bad options, RuntimeError if it cannot start: a ListenError,
    which is a ValueError, too, if a port cannot be bound. TimeoutError after 60 s.
    """
    check_controller_options(controller_options)
    given = dict(http_options) if isinstance(http_options, Mapping) else {}
    http = http_options if isinstance(http_options, HTTPOptions) else HTTPOptions.of({**given, **options})
    logging = LoggingConfig.of(logging_config)
    tracing = TracingConfig.given(tracing_config)
    doors = Doors.of(proxy_location, http, gRPCOptions.of(grpc_options), insecure, gateways, logging, tracing)
    with current.lock:
        current.warn_of_ended()
        if detached and environment.address() is None and standing.orphans():
            standing.start(None)  # as it was: what runs is taken over
        if current.find() is not None:
            if proxy_location or http_options or grpc_options or options:
                logger.warning("The options are ignored: an instance runs already.")
            return
        if detached:
            standing.start(doors)
            current.find()
            return
        instance = current.start(doors)
    with current.forgotten_if_it_failed(instance):
        instance.wait_until_ready()


def shutdown() -> None:
    """Drains and ends all applications and the instance; blocks until they have ended. Nothing happens if none runs.

    Of an instance whose controller was killed it ends what is left.
    """
    with current.lock:
        current.remove_ended()
        instance = current.find()
        if instance is not None and instance.away and instance.address == standing.address():
            current.forget()
            standing.end_orphans_for_good()
            return
        if instance is None:
            logger.info("There is nothing to shut down.")
            return
        try:
            instance.shut_down()  # this process's own calls are among those that finish
        finally:
            current.forget()


async def shutdown_async() -> None:
    """As :func:`shutdown`, from a coroutine."""
    await asyncio.to_thread(shutdown)


def shutdown_own() -> None:
    """As :func:`shutdown` for an instance that belongs to this process; nothing happens to any other."""
    instance = current.instance
    if instance is not None and instance.owned is not None:
        shutdown()


def is_running() -> bool:
    """Whether there is an instance that this process would use."""
    return current.found() is not None


def wait() -> None:
    """Blocks until Ctrl-C or SIGTERM, then shuts everything down; or until somebody else has shut it down.

    Of an instance that is not this process's own, the applications that this process has deployed are deleted instead.

    SIGTERM counts in the main thread, unless the program handles it itself. A second signal, while the shutdown lasts,
    cuts it short and is raised: KeyboardInterrupt, or SystemExit with status 143. Raises FairleadError if the
    instance's controller ends by itself; nothing is left of it then.
    """
    block(current.existing())


def block(instance: Instance) -> None:
    """As :func:`wait`, for an instance."""
    with terminable():
        try:
            _wait_for_end(instance)
        except (KeyboardInterrupt, Terminated) as signalled:
            name = "SIGTERM" if isinstance(signalled, Terminated) else "KeyboardInterrupt"
            logger.warning("Got %s, shutting down...", name)
            _end_what_is_ours(instance)


def _end_what_is_ours(instance: Instance) -> None:
    """The instance if it is this process's own, else the applications that this process has deployed to it."""
    if instance.owned is not None or not instance.controls:
        shutdown()
        return
    for name in sorted(current.deployed):
        instance.delete(name)
    current.deployed.clear()


def _wait_for_end(instance: Instance) -> None:
    if instance.owned is None:
        while True:
            time.sleep(1.0)  # see OwnedInstance.wait
    instance.owned.wait()
    with current.lock:
        if current.instance is instance and (ending := current.remove_ended()):
            raise FairleadError(f"{ending}. What it ran was ended, too.")
