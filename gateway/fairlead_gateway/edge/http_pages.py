"""The gateway's own pages: what is routed where, what can be called, and a page to try it with."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import re
from collections.abc import Iterable
from typing import Any

from fairlead.paths import Route
from fairlead_gateway.edge import http_reply, openapi
from fairlead_gateway.edge.exchange import HttpTarget
from fairlead_gateway.edge.http_mounts import Mount, Mounts
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_targets import HttpTargets
from fairlead_gateway.routing.table import Application

HTML = b"text/html; charset=utf-8"

_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


OWN = Mount("/", "", "fairlead")
"""Where what is no application's is described."""


class Pages:
    """The pages for one state of the route table: a change of it makes new ones."""

    def __init__(
        self,
        mounts: Mounts,
        targets: HttpTargets,
        *,
        own: Iterable[Route[HttpTarget]] = (),
        applications: Iterable[Application] = (),
        root_path: str = "",
        token: bool = False,
    ) -> None:
        """``own``: routes that are no application's. ``applications``: all, for those with classic endpoints.
        ``root_path``: a prefix that a proxy removes. ``token``: whether requests need a bearer token.
        """
        self._mounts = mounts
        self._targets = targets
        self._own = tuple(own)
        self._root_path = root_path
        self._token = token
        self._openapi: Reply | None = None
        self._routes = _routes(mounts, applications)

    def routes(self) -> Reply:
        """Route prefix to application, as Ray Serve's ``/-/routes``.

        In the place of an application of classic endpoints there are these, as classic Ray Serve shows them.
        """
        return http_reply.json(200, self._routes)

    def openapi(self) -> Reply:
        """The OpenAPI document, made when it is first asked for."""
        if self._openapi is None:
            applications = [
                (mount, found.routes)
                for mount in self._mounts.all()
                if (found := self._targets.of(mount.application)) is not None
            ]
            applications.append((OWN, self._own))
            made = openapi.document(applications, root_path=self._root_path, token=self._token)
            self._openapi = http_reply.json(200, made)
        return Reply(self._openapi.status, list(self._openapi.headers), self._openapi.body)


def _routes(mounts: Mounts, applications: Iterable[Application]) -> dict[str, Any]:
    routes: dict[str, Any] = mounts.as_routes()
    for application in applications:
        for name, deployment in application.deployments.items():
            if deployment.interface.HasField("endpoint"):
                endpoint = deployment.interface.endpoint
                routes.pop(application.route_prefix or "", None)
                routes[endpoint.route or name] = [name, list(endpoint.http_methods)]
    return routes


@functools.cache
def _docs() -> tuple[bytes, bytes]:
    page = importlib.resources.files(__package__).joinpath("pages/docs.html").read_bytes()
    scripts = b" ".join(
        b"'sha256-" + base64.b64encode(hashlib.sha256(script).digest()) + b"'" for script in _SCRIPT.findall(page)
    )
    policy = b"; ".join(
        (
            b"default-src 'none'",
            b"base-uri 'none'",
            b"connect-src 'self'",
            b"form-action 'none'",
            b"frame-ancestors 'none'",
            b"img-src data:",
            b"style-src 'unsafe-inline'",
            b"script-src " + scripts,
        )
    )
    return page, policy


def docs() -> Reply:
    """The page that lists the operations and tries them. It loads nothing but the document and runs no other script."""
    page, policy = _docs()
    length = b"%d" % len(page)
    headers = [(b"content-type", HTML), (b"content-length", length), (b"content-security-policy", policy)]
    return Reply(200, headers, page)
