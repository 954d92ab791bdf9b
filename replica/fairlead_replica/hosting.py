"""The user's class or function, from its constructor to its destructor: what every host of one does."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fairlead.serve.context import ReplicaContext
from fairlead.serve.multiplexing.decorator import announce
from fairlead.serve.multiplexing.registry import Registry
from fairlead.v1 import control_pb2
from fairlead.wire.link import Link
from fairlead_replica import assignment
from fairlead_replica.asgi import application_of
from fairlead_replica.callable import UserCallable
from fairlead_replica.hooks import Hooks
from fairlead_replica.routing_stats import collect_forever
from fairlead_replica.runtime import Runtime
from fairlead_replica.typed.services import TypedServices

logger = logging.getLogger(__name__)

LAST_MOMENT_S = 1.0
"""How much of the time to drain, at most half of it, is kept for interrupting what still runs and for ``__del__``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hosted:
    """What the user's code has become: it can be called until :meth:`end`."""

    runtime: Runtime
    """Its calls."""
    hooks: Hooks
    """What the host calls."""
    registry: Registry
    """Its models."""
    stats: asyncio.Task[None] | None = None
    """Collects the statistics for request routers; None: there are none."""

    async def end(self, timeout_s: float) -> None:
        """Finishes what runs, unloads models, destroys what the user built; cuts short what takes too long.

        New calls are refused from now on.
        """
        runtime = self.runtime
        if self.stats is not None:
            self.stats.cancel()
        until = time.monotonic() + timeout_s
        last_moment_s = min(LAST_MOMENT_S, max(0.0, timeout_s) / 2)
        runtime.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(runtime.wait_idle(), timeout_s - last_moment_s)
        if ongoing := runtime.statistics().ongoing:
            logger.warning("%d calls did not end in time and are cancelled", ongoing)
            runtime.cancel_all()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(runtime.wait_idle(), LAST_MOMENT_S / 2)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.registry.unload_all(), max(LAST_MOMENT_S / 2, until - time.monotonic()))
        if runtime.callable.asgi is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(runtime.callable.asgi.stop(), max(LAST_MOMENT_S / 2, until - time.monotonic()))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.hooks.destroy(), max(LAST_MOMENT_S / 2, until - time.monotonic()))
        self.hooks.close()


async def host(
    code: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    settings: control_pb2.DeploymentSettings,
    context: ReplicaContext,
    set_context: Callable[[ReplicaContext], None],
    registry: Registry,
    links: set[Link],
    interface: control_pb2.DeploymentInterface | None = None,
) -> Hosted:
    """Makes the user's class or function ready to be called: constructed, configured, checked.

    ``interface``: what it offers at the doors, of which the typed services matter here. ``set_context`` tells the
    user's code which replica it is. Raises whatever the user's code raises.
    """
    began = time.monotonic()
    set_context(context)
    if isinstance(code, type):
        target = UserCallable(await _construct(code, args, kwargs), is_function=False)
    else:
        target = UserCallable(code, is_function=True)
    set_context(replace(context, servable_object=target.target))
    target.asgi = application_of(target.target)
    if target.asgi is not None:
        await target.asgi.start()
    hooks = Hooks(target)
    await hooks.reconfigure(assignment.user_config(settings))
    await hooks.check_first(settings.health_check_timeout_s or 30.0)
    runtime = Runtime(
        target,
        application=context.app_name,
        max_ongoing_requests=max(1, settings.max_ongoing_requests),
        links=links,
        labels={"application": context.app_name, "deployment": context.deployment, "replica": context.replica_id},
    )
    runtime.measures.started(time.monotonic() - began)
    hooks.on_check = runtime.measures.checked
    if interface is not None and interface.typed_services:
        runtime.use_services(TypedServices(interface, target))
    announce(target.target)
    runtime.use_models(registry)
    stats = None
    if hooks.records_routing_stats:
        collecting = collect_forever(hooks.record_routing_stats, settings, runtime.report_stats)
        stats = asyncio.get_running_loop().create_task(collecting)
    return Hosted(runtime=runtime, hooks=hooks, registry=registry, stats=stats)


async def _construct(code: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An instance of the user's class, on the loop's thread, with the loop running; ``__init__`` may be a coroutine."""
    initialize: Any = code.__init__  # type: ignore[misc]  # of this very class
    if not inspect.iscoroutinefunction(initialize):
        return code(*args, **kwargs)
    instance = code.__new__(code, *args, **kwargs)
    await initialize(instance, *args, **kwargs)
    return instance
