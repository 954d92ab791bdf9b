"""What the user's ``record_routing_stats`` returns, for request routers: collected again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from fairlead.v1 import control_pb2
from fairlead_replica.tracebacks import user_traceback

logger = logging.getLogger(__name__)

DEFAULT_PERIOD_S = 10.0
DEFAULT_TIMEOUT_S = 30.0
MAX_BYTES = 64 * 1024
"""What one collection may come to in JSON: it travels with load reports."""


async def collect_forever(
    call: Callable[[], Awaitable[Any]],
    settings: control_pb2.DeploymentSettings,
    report: Callable[[bytes], None],
) -> None:
    """Collects at once and then every ``stats_period_s`` seconds, for as long as it is not cancelled.

    ``call`` calls the hook, ``report`` gets what changed, as JSON. What fails, takes too long, is no dict or cannot be
    JSON is logged, and what was known before stands.
    """
    router = settings.request_router
    period_s = router.stats_period_s or DEFAULT_PERIOD_S
    timeout_s = router.stats_timeout_s or DEFAULT_TIMEOUT_S
    known = b""
    while True:
        try:
            stats = _encode(await asyncio.wait_for(call(), timeout_s))
        except Exception as error:
            logger.warning("record_routing_stats failed\n%s", user_traceback(error))
        else:
            if stats != known:
                known = stats
                report(stats)
        await asyncio.sleep(period_s)


def _encode(stats: Any) -> bytes:
    if not isinstance(stats, dict):
        raise TypeError(f"record_routing_stats must return a dict, not {type(stats).__name__}")
    encoded = orjson.dumps(stats, option=orjson.OPT_SERIALIZE_NUMPY)
    if len(encoded) > MAX_BYTES:
        raise ValueError(f"record_routing_stats returned {len(encoded)} bytes of JSON; the limit is {MAX_BYTES}")
    return encoded
