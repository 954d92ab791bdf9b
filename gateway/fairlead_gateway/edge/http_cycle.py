"""Runs the door's application for one request, and answers in its place if it, or a middleware, fails."""

from __future__ import annotations

import logging

import grpc
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from fairlead_gateway.edge import http_status

logger = logging.getLogger(__name__)


async def run(app: ASGI3Application, cycle: RequestResponseCycle) -> None:
    """uvicorn's ``run_asgi``, but for what it answers. Never raises; cancelled, it answers as after an exception."""
    try:
        await app(cycle.scope, cycle.receive, cycle.send)
    except BaseException:
        if not cycle.disconnected:
            logger.exception("a request could not be answered")
    if not (cycle.response_complete or cycle.disconnected):
        await _complete(cycle)
    cycle.on_response = _nothing  # it belongs to who owns the cycle


async def _complete(cycle: RequestResponseCycle) -> None:
    """A response that has not begun is 500; one that has must not look like a whole one."""
    if cycle.response_started:
        cycle.transport.close()
        return
    reply = http_status.reply(500, grpc.StatusCode.INTERNAL, http_status.HIDDEN, http_status.CLOSE)
    await cycle.send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await cycle.send({"type": "http.response.body", "body": reply.body, "more_body": False})


def _nothing() -> None:
    pass
