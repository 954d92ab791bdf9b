"""``/-/metrics``: what all processes have measured, for Prometheus."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

import grpc

from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.metrics.page import CONTENT_TYPE, render
from fairlead_gateway.metrics.scrape import Scrape

PREFIX = "fairlead_"
"""Before every name, unless the request says ``?prefix=ray_`` or the like."""

_NAME = re.compile(r"(?:[a-zA-Z_:][a-zA-Z0-9_:]*)?")


class MetricsPage:
    """Makes the page of what a scrape collects."""

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape

    async def __call__(self, query: bytes) -> Reply:
        """The page. ``query``: ``prefix=...`` sets the prefix, for dashboards that were made for other names."""
        given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("prefix", [PREFIX])[-1]
        if len(given) > 64 or not _NAME.fullmatch(given):
            message = "prefix must be the beginning of a Prometheus name, for example ray_"
            return http_status.reply(400, grpc.StatusCode.INVALID_ARGUMENT, message)
        body = render(await self._scrape.collect(), given)
        return Reply(200, [(b"content-type", CONTENT_TYPE), (b"content-length", str(len(body)).encode())], body)
