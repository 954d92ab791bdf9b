"""``DeploymentHandle``: calls a deployment, from a driver or from another deployment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import getrandbits
from typing import Any, Generic, Literal, TypeVar, Unpack, cast, overload

from fairlead.serve import connection
from fairlead.serve.arguments import Resolution, encode, holds_response
from fairlead.serve.broadcast import BroadcastCall, DeploymentBroadcastResponse
from fairlead.serve.caller import Call, StreamCall, UnaryCall
from fairlead.serve.context import current_request_context
from fairlead.serve.options import HandleOptions, OptionNames
from fairlead.serve.response import DeploymentResponse, DeploymentResponseGenerator
from fairlead.serve.selection import ReplicaSelection, ReserveCall, reserved
from fairlead.serve.settings import DEFAULT
from fairlead.serve.upload import IteratorUpload
from fairlead.wire.trust import Trust

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")
C = TypeVar("C", bound=Call)

_REMEMBERED_METHODS = 256


@dataclass(frozen=True, slots=True)
class DeploymentID:
    """Names a deployment."""

    name: str
    app_name: str = "default"

    def __str__(self) -> str:
        return f"Deployment(name='{self.name}', app='{self.app_name}')"


class _Shared:
    """What a handle and the copies made of it have in common."""

    __slots__ = ("explicit", "used")

    def __init__(self) -> None:
        self.used = False
        self.explicit = False


class DeploymentHandle(Generic[T_co]):
    """Calls one deployment: ``handle.remote(...)``, ``handle.method.remote(...)``, ``handle.options(...)``.

    Made by ``serve.run`` and ``serve.get_deployment_handle``, and given to constructors in the place of bound
    deployments. Cheap; may be used from any thread and any number of event loops at once, and pickled: the copy calls
    through the connection of the process that it is in.
    """

    __slots__ = (
        "__weakref__",
        "_app_name",
        "_child",
        "_deployment_name",
        "_methods",
        "_options",
        "_shared",
        "_template",
    )

    def __init__(
        self,
        deployment_name: str,
        app_name: str = "default",
        *,
        options: HandleOptions | None = None,
        _shared: _Shared | None = None,
    ) -> None:
        self._deployment_name = deployment_name
        self._app_name = app_name
        self._options = options or HandleOptions()
        self._template = self._options.template(app_name, deployment_name)
        self._methods: dict[str, DeploymentHandle[Any]] = {}
        self._child = _shared is not None
        self._shared = _shared or _Shared()

    # -- what it calls

    @property
    def deployment_name(self) -> str:
        """The deployment."""
        return self._deployment_name

    @property
    def app_name(self) -> str:
        """The application."""
        return self._app_name

    @property
    def deployment_id(self) -> DeploymentID:
        """Both."""
        return DeploymentID(self._deployment_name, self._app_name)

    # -- calls

    @overload
    def remote(
        self: DeploymentHandle[Callable[..., Coroutine[Any, Any, R]]], *args: Any, **kwargs: Any
    ) -> DeploymentResponse[R]: ...
    @overload
    def remote(
        self: DeploymentHandle[Callable[..., Iterator[R] | AsyncIterator[R]]], *args: Any, **kwargs: Any
    ) -> DeploymentResponseGenerator[R]: ...
    @overload
    def remote(self: DeploymentHandle[Callable[..., R]], *args: Any, **kwargs: Any) -> DeploymentResponse[R]: ...
    @overload
    def remote(self, *args: Any, **kwargs: Any) -> Any: ...
    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the deployment: sends the call at once and returns a ``DeploymentResponse``, without waiting.

        With ``options(stream=True)`` a ``DeploymentResponseGenerator``. A ``DeploymentResponse`` among the top-level
        arguments is resolved first; an asynchronous iterator as the first argument is streamed to the callee, which
        gets one too. Whatever goes wrong is raised when the result is fetched. Made while a request is handled, the
        call carries its request id, ends with its deadline, and is cancelled with it.
        """
        call = self._make(UnaryCall)
        self._send(call, args, kwargs)
        return DeploymentResponse(call)

    def broadcast(self, method_name: str, *args: Any, **kwargs: Any) -> DeploymentBroadcastResponse:
        """Calls a method on all running replicas, at once; returns without waiting.

        ``max_queued_requests`` does not hold for it, and the handle's method and ``stream`` do not count. Meant for
        rare things: cache resets, configuration, synchronization of state.
        """
        options = self._options.update({"method_name": method_name, "stream": False})
        template = options.template(self._app_name, self._deployment_name, broadcast=True)
        call = self._make(BroadcastCall, template)
        self._send(call, args, kwargs)
        return DeploymentBroadcastResponse(call)

    def choose_replica(self, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[ReplicaSelection]:
        """Reserves one slot of one replica, for one call: ``async with handle.choose_replica() as selection:``.

        Entering waits for a free slot as a call does: the same queue, policy, ``max_queued_requests`` and
        ``timeout_s``, which is for the waiting only. Raises what a call would. ``dispatch`` then runs a call in the
        slot; leaving the block without one frees it, and so does the end of the request that is handled, or of the
        connection to the gateway. The arguments are accepted for compatibility: nothing is chosen by them.
        """
        template = self._options.template(self._app_name, self._deployment_name, reserve=True)
        return reserved(lambda: self._make(ReserveCall, template), self._app_name, self._deployment_name)

    @overload
    def dispatch(
        self: DeploymentHandle[Callable[..., Coroutine[Any, Any, R]]],
        selection: ReplicaSelection,
        *args: Any,
        **kwargs: Any,
    ) -> DeploymentResponse[R]: ...
    @overload
    def dispatch(
        self: DeploymentHandle[Callable[..., Iterator[R] | AsyncIterator[R]]],
        selection: ReplicaSelection,
        *args: Any,
        **kwargs: Any,
    ) -> DeploymentResponseGenerator[R]: ...
    @overload
    def dispatch(
        self: DeploymentHandle[Callable[..., R]], selection: ReplicaSelection, *args: Any, **kwargs: Any
    ) -> DeploymentResponse[R]: ...
    @overload
    def dispatch(self, selection: ReplicaSelection, *args: Any, **kwargs: Any) -> Any: ...
    def dispatch(self, selection: ReplicaSelection, *args: Any, **kwargs: Any) -> Any:
        """As ``remote``, but in the slot that ``choose_replica`` reserved: on that replica and at once, or not at all.

        The method and the options are this handle's, not those that the replica was chosen with. Raises ValueError
        for a selection of another deployment, RuntimeError for one that was dispatched, or whose block was left.
        Fetching the result raises ReplicaUnavailableError if the replica is gone, and ReservationNotFoundError if the
        gateway does not hold the slot any more.
        """
        return DeploymentResponse(self._dispatch(UnaryCall, selection, args, kwargs))

    def _dispatch(self, kind: type[C], selection: ReplicaSelection, args: tuple[Any, ...], kwargs: dict[str, Any]) -> C:
        reservation, reservation_id = selection.use(self._app_name, self._deployment_name)
        template = self._options.template(self._app_name, self._deployment_name, reservation_id=reservation_id)
        call = self._make(kind, template)
        call.add(reservation.cancel)  # for a call that ends before the gateway has seen it
        failure = reservation.failure() if reservation.done else None
        if failure is not None:
            call.finish(failure)
            return call
        try:
            self._send(call, args, kwargs)
        except BaseException:
            call.cancel()
            raise
        return call

    def _make(self, kind: type[C], template: Any = None) -> C:
        self._shared.used = True
        parent = current_request_context()
        request_id = "" if parent is None else parent.request_id
        return kind(template or self._template, connection.current(), request_id or f"{getrandbits(128):032x}", parent)

    def _send(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if args and hasattr(type(args[0]), "__anext__") and type(args[0]) is not DeploymentResponseGenerator:
            call.upload = upload = IteratorUpload(call, args[0])
            args = args[1:]
            upload.begin()
        if holds_response(args, kwargs):
            if call.deadline is not None:
                call.wire.post(call.arm)
            Resolution(call, args, kwargs, lambda: call.wire.post(call.start)).begin()
        elif encode(call, args, kwargs):
            call.wire.post(call.start)

    # -- copies

    @overload
    def options(self, *, stream: Literal[True], **given: Unpack[OptionNames]) -> StreamingDeploymentHandle: ...
    @overload
    def options(self, *, stream: bool | DEFAULT = ..., **given: Unpack[OptionNames]) -> DeploymentHandle[Any]: ...
    def options(self, **given: Any) -> DeploymentHandle[Any]:
        """A copy that calls differently; what is left out stays. ``HandleOptions`` says what each option means.

        ``method_name``, ``multiplexed_model_id``, ``session_id``, ``stream``, ``timeout_s``, ``idempotent``,
        ``request_serialization``, ``response_serialization`` (each of cloudpickle, pickle, msgpack and orjson, in any
        case); ``use_new_handle_api``, ``_prefer_local_routing`` and ``_by_reference`` are accepted for compatibility
        and change nothing. Raises TypeError for unknown options, ValueError or TypeError for values that cannot be.
        """
        return self._copy(self._options.update(given))

    def _copy(self, options: HandleOptions) -> DeploymentHandle[Any]:
        kind = StreamingDeploymentHandle if options.stream else DeploymentHandle
        return kind(self._deployment_name, self._app_name, options=options, _shared=self._shared)

    def __getattr__(self, name: str) -> DeploymentHandle[Any]:
        """A copy that calls the method of this name; whether there is one is found out by calling it."""
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found = self._methods.get(name)
        if found is None:
            found = self._copy(self._options.update({"method_name": name}))
            if len(self._methods) < _REMEMBERED_METHODS:
                self._methods[name] = found
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        here = connection.current()
        hint = here.address if here.trust is Trust.OWNER else ""
        return (_restore, (self._deployment_name, self._app_name, self._options.given(), hint))

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment='{self._deployment_name}')"

    # -- life: there is nothing to set up or to end, since all handles share their process's connection

    @property
    def is_initialized(self) -> bool:
        """Whether it was used, or ``_init`` was called."""
        return self._shared.used or self._shared.explicit

    def _init(self, **settings: Any) -> None:
        """For compatibility. Raises RuntimeError on copies, after the first use, and the second time."""
        if self._child:
            raise RuntimeError("`_init()` is for the handle itself, not for what `.options()` or a method's name made")
        if self.is_initialized:
            raise RuntimeError("the handle has been initialized already: `_init()` comes before the first use, once")
        self._shared.explicit = True

    def running_replicas_populated(self) -> bool:
        """Whether calls can be routed: the gateway knows the replicas, so whether there is a gateway."""
        return bool(connection.current().address)

    def shutdown(self) -> None:
        """For compatibility; does nothing."""

    async def shutdown_async(self) -> None:
        """For compatibility; does nothing."""


class StreamingDeploymentHandle(DeploymentHandle[Any]):
    """A handle with ``stream=True``: its calls return generators."""

    __slots__ = ()

    def remote(self, *args: Any, **kwargs: Any) -> DeploymentResponseGenerator[Any]:  # type: ignore[override]
        """As ``DeploymentHandle.remote``; returns a ``DeploymentResponseGenerator``."""
        call = self._make(StreamCall)
        self._send(call, args, kwargs)
        return DeploymentResponseGenerator(call)

    def dispatch(  # type: ignore[override]
        self, selection: ReplicaSelection, *args: Any, **kwargs: Any
    ) -> DeploymentResponseGenerator[Any]:
        """As ``DeploymentHandle.dispatch``; returns a ``DeploymentResponseGenerator``."""
        return DeploymentResponseGenerator(self._dispatch(StreamCall, selection, args, kwargs))

    def __getattr__(self, name: str) -> StreamingDeploymentHandle:
        """A copy that calls the method of this name."""
        return cast(StreamingDeploymentHandle, super().__getattr__(name))


def _restore(deployment_name: str, app_name: str, options: dict[str, Any], hint: str) -> DeploymentHandle[Any]:
    """Makes a pickled handle again. In a process that knows no gateway yet, the one that the sender used is taken."""
    here = connection.current()
    if hint and not here.address:
        here.set_address(hint, Trust.OWNER)
    chosen = HandleOptions(**options)
    kind = StreamingDeploymentHandle if chosen.stream else DeploymentHandle
    return kind(deployment_name, app_name, options=chosen)


def unbound_handle(deployment_name: str, app_name: str) -> tuple[Any, ...]:
    """What a handle is pickled as in the arguments of a constructor: without a trace of this process."""
    return (_restore, (deployment_name, app_name, {}, ""))


__all__ = [
    "DeploymentBroadcastResponse",
    "DeploymentHandle",
    "DeploymentID",
    "DeploymentResponse",
    "DeploymentResponseGenerator",
    "ReplicaSelection",
    "unbound_handle",
]
