"""What runs in a backend's replica: the user's function or class, called with requests of either door."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import importlib
import inspect
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fairlead.serve.batching.accept import BatchAcceptor, accepts_batch
from fairlead.serve.classic.request import ServeRequest
from fairlead.serve.classic.responses import error_response, response_of
from fairlead.serve.classic.web_request import WebRequest, is_web_request
from fairlead.wire.errors import FairleadError

logger = logging.getLogger("fairlead.serve")

CALL = "__call__"
_NONE = inspect.Parameter.empty
METHOD_HEADER = "x-serve-call-method"
_REQUEST_NAMES = frozenset(
    {"request", "req", "starlette_request", "serve_request", "http_request", "flask_request", "_"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Called:
    """How a handle calls, beside the arguments."""

    method: str = CALL
    http_method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)


class Backend:
    """Hosts a backend. ``definition``: a function, a class, or the import path of either.

    ``convertors``: Starlette's, of the user's own, for the parameters of paths.
    """

    __fairlead_any_route__ = True  # its endpoints declare the routes

    def __init__(self, definition: Any, init_args: tuple[Any, ...], convertors: Mapping[str, Any]) -> None:
        self.__fairlead_convertors__ = convertors
        self._batches = accepts_batch(definition)
        if isinstance(definition, str):
            module, _, name = definition.replace(":", ".").rpartition(".")
            definition = getattr(importlib.import_module(module), name)
        self._is_class = isinstance(definition, type)
        self._target = definition(*init_args) if self._is_class else definition
        self._pool = _pool(1)
        self._acceptors: dict[str, BatchAcceptor] = {}
        self._limits: tuple[int | None, float] = (None, 0.0)

    # -- what the host calls

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Takes in how many calls may block, batch limits and, where there is one, the user's own configuration."""
        before, self._pool = self._pool, _pool(config["threads"])
        before.shutdown(wait=False)  # what it has been given it runs
        self._limits = (config["max_batch_size"], config["batch_wait_timeout"])
        for acceptor in self._acceptors.values():
            acceptor.limit(*self._limits)
        if not (user_config := config.get("user_config")):
            return
        hook = getattr(self._target, "reconfigure", None)
        if not self._is_class:
            raise ValueError("user_config needs a class: a function has no reconfigure method")
        if hook is None:
            raise FairleadError("user_config specified but the backend has no reconfigure method")
        await self._run(hook, user_config)

    def check_health(self) -> None:
        """The user's, if there is one."""
        hook = getattr(self._target, "check_health", None)
        if callable(hook):
            hook()

    # -- what callers call

    async def serve_http(self, request: Any) -> Any:
        """A HTTP request: to the method that its header names."""
        try:
            return response_of(await self._answer(request.headers.get(METHOD_HEADER, CALL), request, request, (), {}))
        except Exception as error:
            logger.exception("a request failed")
            return error_response(error)

    async def serve_call(self, called: Called, /, *args: Any, **kwargs: Any) -> Any:
        """A call through a handle. A request of the web that is passed on arrives as itself."""
        args = tuple(arg.restored() if isinstance(arg, WebRequest) else arg for arg in args)
        data = args[0] if args else None
        request = data if is_web_request(data) else ServeRequest(data, kwargs, called.headers, called.http_method)
        return await self._answer(called.method, request, data, args, kwargs)

    async def _answer(
        self, name: str, request: Any, data: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        method = self._method(name)
        if self._batches:
            return await self._acceptor(name, method)(request)
        first = _first_parameter(method)
        if first is None:
            return await self._run(method, **kwargs)
        if is_web_request(request) or takes_request(method) or (not args and not kwargs and first.default is _NONE):
            return await self._run(method, request)
        return await self._run(method, *args, **kwargs)

    def _method(self, name: str) -> Any:
        if not self._is_class:
            if name != CALL:
                raise FairleadError(f"Backend doesn't have method {name}: it is a function.")
            return self._target
        method = None if name.startswith("_") and name != CALL else getattr(self._target, name, None)
        if not callable(method):
            known = [each for each in dir(type(self._target)) if not each.startswith("_")]
            raise FairleadError(f"Backend doesn't have method {name}. Available methods are {known}.")
        return method

    def _acceptor(self, name: str, method: Any) -> BatchAcceptor:
        acceptor = self._acceptors.get(name)
        if acceptor is None:
            acceptor = self._acceptors[name] = BatchAcceptor(method)
            acceptor.limit(*self._limits)
        return acceptor

    async def _run(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        call = functools.partial(method, *args, **kwargs)
        if inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(getattr(method, CALL, None)):
            return await call()
        context = contextvars.copy_context()
        result = await asyncio.get_running_loop().run_in_executor(self._pool, context.run, call)
        return await result if inspect.isawaitable(result) else result

    def __del__(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="fairlead-backend")


@functools.lru_cache(maxsize=1024)
def _first_parameter(function: Any) -> inspect.Parameter | None:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return next((parameter for parameter in parameters if parameter.kind in kinds), None)


def takes_request(method: Any) -> bool:
    """Whether a method wants the request object, by its first parameter's name or annotation; else plain arguments."""
    parameter = _first_parameter(method)
    if parameter is None:
        return False
    annotation = parameter.annotation
    written = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if written.rpartition(".")[2] in ("Request", "ServeRequest"):
        return True
    return parameter.name in _REQUEST_NAMES or parameter.name.endswith("_request")
