"""Handles to endpoints: one whose ``remote`` gives a response, and one whose ``remote`` is awaited for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from fairlead.serve.classic.backend import CALL, Called
from fairlead.serve.classic.web_request import is_web_request, travelling
from fairlead.serve.handle import DeploymentHandle
from fairlead.serve.response import DeploymentResponse
from fairlead.serve.settings import DEFAULT

APPLICATION = "endpoints"
"""The application that endpoints belong to."""

H = TypeVar("H", bound="_Handle")


class _Handle:
    """What both kinds have in common. ``wait_for``: waits until the endpoint is there, before the first call.

    It travels with the handle: it is a function that others can import.
    """

    def __init__(
        self,
        endpoint: str,
        called: Called | None = None,
        shard_key: str | None = None,
        wait_for: Callable[[str], None] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._called = called or Called()
        self._shard_key = shard_key
        self._wait_for = wait_for
        handle: DeploymentHandle[Any] = DeploymentHandle(endpoint, APPLICATION)
        options: dict[str, Any] = {} if shard_key is None else {"shard_key": shard_key}
        self._handle = handle.options(method_name="serve_call", **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(endpoint='{self._endpoint}')"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._endpoint, self._called, self._shard_key, self._wait_for)

    @property
    def endpoint_name(self) -> str:
        """The endpoint."""
        return self._endpoint

    def options(
        self: H,
        *,
        method_name: str | DEFAULT = DEFAULT.VALUE,
        shard_key: str | DEFAULT | None = DEFAULT.VALUE,
        http_method: str | DEFAULT = DEFAULT.VALUE,
        http_headers: Mapping[str, str] | DEFAULT = DEFAULT.VALUE,
    ) -> H:
        """A copy with other options; those that are not given stay as they are."""
        called = self._called
        return type(self)(
            self._endpoint,
            Called(
                method=called.method if isinstance(method_name, DEFAULT) else method_name,
                http_method=called.http_method if isinstance(http_method, DEFAULT) else http_method,
                headers=called.headers if isinstance(http_headers, DEFAULT) else dict(http_headers),
            ),
            self._shard_key if isinstance(shard_key, DEFAULT) else shard_key,
            self._wait_for,
        )

    def __getattr__(self: H, name: str) -> H:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.options(method_name=name)

    def _send(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DeploymentResponse[Any]:
        given = tuple(travelling(arg) if is_web_request(arg) else arg for arg in args)
        response: DeploymentResponse[Any] = self._handle.remote(self._called, *given, **kwargs)
        return response


class RayServeSyncHandle(_Handle):
    """A handle for any thread."""

    def remote(self, *args: Any, **kwargs: Any) -> DeploymentResponse[Any]:
        """Calls the endpoint. The response works with ``fairlead.get`` and ``wait``, and can be awaited anywhere."""
        if self._wait_for is not None:
            self._wait_for(self._endpoint)
            self._wait_for = None
        return self._send(args, kwargs)


class RayServeHandle(_Handle):
    """A handle for event loops: its calls are awaited for the response, and that for the value."""

    def remote(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, DeploymentResponse[Any]]:
        """Calls the endpoint once it is awaited; gives the response, which is awaited for the value."""
        return self._call(args, kwargs)

    async def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DeploymentResponse[Any]:
        if self._wait_for is not None:
            await _in_daemon(self._wait_for, self._endpoint)
            self._wait_for = None
        return self._send(args, kwargs)


async def _in_daemon(function: Callable[[str], None], name: str) -> None:
    """Has a thread of its own wait. Who is cancelled meanwhile leaves it behind; it keeps no program from ending."""
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()

    def run() -> None:
        error: Exception | None = None
        try:
            function(name)
        except Exception as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(end, error)

    def end(error: Exception | None) -> None:
        if waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)

    threading.Thread(target=run, name="fairlead-endpoint", daemon=True).start()
    await waiting


__all__ = ["APPLICATION", "CALL", "RayServeHandle", "RayServeSyncHandle"]
