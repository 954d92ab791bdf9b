"""What user code can learn about the call and the replica that it runs in.

The replica host sets a :class:`RequestContext` for each call, and the :class:`ReplicaContext` once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar, Token, copy_context
from dataclasses import dataclass
from typing import Any, Protocol

from fairlead.v1 import session_pb2
from fairlead.wire.errors import FairleadError

BACKEND = "backend:"
"""What the names of classic backends' applications begin with."""


class Cancellable(Protocol):
    """A call made on behalf of another one."""

    def cancel(self) -> None:
        """Gives the call up. Does nothing if it has ended. From any thread."""


class RequestContext:
    """What is known of the call that is being handled. Read-only for users.

    Made for each call, so it only keeps the call's header and reads from it when asked.
    """

    __slots__ = (
        "_children",
        "_client",
        "_finished",
        "_header",
        "_holds",
        "_waiting",
        "app_name",
        "deadline",
        "grpc_context",
        "is_http_request",
    )

    def __init__(
        self,
        header: session_pb2.CallHeader,
        *,
        app_name: str | None = None,
        deadline: float | None = None,
        is_http_request: bool = False,
        grpc_context: Any = None,
        client: str = "",
    ) -> None:
        self._header = header
        self._children: set[Cancellable] | None = None
        self._client = client
        self._finished = False
        self._holds: dict[Any, Callable[[], None]] | None = None
        self._waiting = 0
        self.app_name = header.application if app_name is None else app_name
        """The application that runs the call."""
        self.deadline = deadline
        """When the call's time is over, by ``time.monotonic()``; None: never."""
        self.is_http_request = is_http_request
        """Whether the call came in as a HTTP request for a handler that takes one."""
        self.grpc_context = grpc_context
        """The ``grpc_context`` of a typed gRPC service's method, else None."""

    @property
    def request_id(self) -> str:
        """The request's id, the same in all calls made on its behalf."""
        return self._header.request_id

    @property
    def _internal_request_id(self) -> str:
        return self._header.request_id

    @property
    def route(self) -> str:
        """The HTTP route that the request came in by; empty where it did not come by HTTP."""
        return self._header.route

    @property
    def multiplexed_model_id(self) -> str:
        """The model that the caller asked for; empty: none."""
        return self._header.multiplexed_model_id

    @property
    def session_id(self) -> str:
        """The session that the call belongs to; empty: none."""
        return self._header.session_id

    @property
    def cancel_on_parent_request_cancel(self) -> bool:
        """Whether cancelling this call cancels the calls it made: always."""
        return True

    def adopt(self, call: Cancellable) -> None:
        """Registers a call made on behalf of this one. From any thread."""
        if self._children is None:
            self._children = set()
        self._children.add(call)

    def release(self, call: Cancellable) -> None:
        """Forgets a call that has ended. From any thread."""
        if self._children is not None:
            self._children.discard(call)

    def cancel_children(self) -> None:
        """Cancels the calls made on behalf of this one that have not ended. The replica host calls it."""
        if self._children is not None:
            for call in list(self._children):
                call.cancel()

    def hold(self, key: Any, release: Callable[[], None]) -> bool:
        """Keeps something for as long as the call runs: ``release`` is called once, at its end or when it must wait.

        False: the call has ended, waits, or holds what ``key`` names already; ``release`` is not kept. On the loop.
        """
        if self._holds is None:
            self._holds = {}
        if self._finished or self._waiting or key in self._holds:
            return False
        self._holds[key] = release
        return True

    def begin_wait(self) -> None:
        """The call waits for something that others hold: it releases what it holds, and holds nothing until it got it.

        Two calls that each wait for what the other holds would wait forever. On the loop.
        """
        self._waiting += 1
        self._let_go()

    def end_wait(self) -> None:
        """The end of a ``begin_wait``."""
        self._waiting -= 1

    def _let_go(self) -> None:
        holds, self._holds = self._holds, None
        for release in (holds or {}).values():
            release()

    def finish(self) -> None:
        """The call has ended: releases what it holds. The replica host calls it, on the loop."""
        self._finished = True
        if self._holds is not None:
            self._let_go()

    def detached(self) -> RequestContext:
        """The same request for work that outlives the call: without its deadline, its calls and what it holds."""
        return RequestContext(
            self._header, app_name=self.app_name, is_http_request=self.is_http_request, client=self._client
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored_context, (self._header, self.app_name, self.is_http_request, self._client)

    def __repr__(self) -> str:
        return (
            f"RequestContext(request_id={self.request_id!r}, app_name={self.app_name!r}, route={self.route!r}, "
            f"multiplexed_model_id={self.multiplexed_model_id!r}, children={len(self._children or ())})"
        )


class _RequestContext(RequestContext):
    """Ray Serve's private name and constructor: for tests that set a context themselves."""

    __slots__ = ()

    def __init__(
        self,
        route: str = "",
        request_id: str = "",
        _internal_request_id: str = "",
        app_name: str = "",
        multiplexed_model_id: str = "",
        grpc_context: Any = None,
        is_http_request: bool = False,
        session_id: str = "",
        **_rest: Any,
    ) -> None:
        header = session_pb2.CallHeader(
            route=route, request_id=request_id, multiplexed_model_id=multiplexed_model_id, session_id=session_id
        )
        super().__init__(header, app_name=app_name, grpc_context=grpc_context, is_http_request=is_http_request)


def _restored_context(
    header: session_pb2.CallHeader, app_name: str, is_http_request: bool, client: str
) -> RequestContext:
    """A context that was pickled: what is known of the request, without the call and its deadline by this clock."""
    return RequestContext(header, app_name=app_name, is_http_request=is_http_request, client=client)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaRank:
    """The place of a replica among its deployment's."""

    rank: int = 0
    """Its number among all replicas."""
    node_rank: int = 0
    """The number of its machine."""
    local_rank: int = 0
    """Its number on its machine."""


class ReplicaName(str):
    """A replica's id, ``application#deployment#suffix``: a string that knows what Ray Serve's ``ReplicaID`` does."""

    __slots__ = ()

    @property
    def unique_id(self) -> str:
        """The last part."""
        return self.rpartition("#")[2]

    def to_full_id_str(self) -> str:
        """The whole id, as a plain string."""
        return str(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaContext:
    """What is known of the replica that user code runs in."""

    app_name: str
    """The application."""
    deployment: str
    """The deployment's name."""
    replica_id: ReplicaName
    """The replica's id, ``application#deployment#suffix``."""
    servable_object: Any = None
    """The instance of the user's class, or the function; None while the constructor runs."""
    rank: ReplicaRank | None = None
    """The replica's place among its deployment's; None where it is not known."""
    world_size: int = 1
    """How many replicas the deployment wanted when this one started."""
    code_version: str = ""
    """Tells versions of the code apart."""

    @property
    def replica_tag(self) -> str:
        """The last part of the id; of a replica of a classic backend, ``backend#suffix``."""
        if self.app_name.startswith(BACKEND):
            return f"{self.deployment}#{self.replica_id.unique_id}"
        return self.replica_id.unique_id

    @property
    def backend_tag(self) -> str:
        """What a backend of the classic API was created as; of any other deployment, its name."""
        return self.deployment


_EMPTY_HEADER = session_pb2.CallHeader()
_request_context: ContextVar[RequestContext | None] = ContextVar("fairlead_request_context", default=None)
_batch_contexts: ContextVar[tuple[RequestContext, ...]] = ContextVar("fairlead_batch_contexts", default=())
_replica_context: ReplicaContext | None = None
_background: Context | None = None
# Where several replicas share a process, each has its own; they take precedence over the process's.
_own_replica_context: ContextVar[ReplicaContext | None] = ContextVar("fairlead_replica_context", default=None)
_own_background: ContextVar[Context | None] = ContextVar("fairlead_background_context", default=None)

current_request_context = _request_context.get
"""The context of the call that is being handled, or None outside of one. For hot paths."""


def set_request_context(context: RequestContext | None) -> Token[RequestContext | None]:
    """Enters a call. For the replica host, in the task or thread that runs the user's method."""
    return _request_context.set(context)


def reset_request_context(token: Token[RequestContext | None]) -> None:
    """Leaves a call. Not needed where the task ends with the call."""
    _request_context.reset(token)


def get_request_context() -> RequestContext:
    """The context of the call that is being handled; an empty one outside of a call."""
    return _request_context.get() or RequestContext(_EMPTY_HEADER)


# Ray Serve's private names, commonly used anyway.
_get_serve_request_context = get_request_context
_serve_request_context = _request_context


def enter_batch(contexts: Sequence[RequestContext]) -> RequestContext:
    """Enters a batch of calls for the same model, in the task that handles it.

    The batch is no one's call: its own context, which is returned, is empty but for the model id.
    """
    model_id = contexts[0].multiplexed_model_id if contexts else ""
    header = session_pb2.CallHeader(multiplexed_model_id=model_id) if model_id else _EMPTY_HEADER
    context = RequestContext(header)
    _request_context.set(context)
    _batch_contexts.set(tuple(contexts))
    return context


def _get_serve_batch_request_context() -> list[RequestContext]:
    """The contexts of the calls in the batch that is being handled, in the order of its lists; empty outside of one."""
    return list(_batch_contexts.get())


def set_background_context(context: Context | None) -> None:
    """Says what the calls of this replica start from. For the replica host; None: nothing is known."""
    global _background
    _background = context
    if context is not None:
        context.run(_own_background.set, context)


def background_context() -> Context:
    """A context for work that is no one's call: in a replica what its calls start from, else a copy of the current."""
    background = _own_background.get() or _background
    return copy_context() if background is None else background.copy()


def get_multiplexed_model_id() -> str:
    """The model id that the caller of the call being handled asked for; empty: none, or no call is being handled."""
    context = _request_context.get()
    return "" if context is None else context.multiplexed_model_id


def set_replica_context(context: ReplicaContext | None) -> None:
    """Says which replica this process is. For the replica host; None: none."""
    global _replica_context
    _replica_context = context


def enter_replica_context(context: ReplicaContext) -> None:
    """Says which replica runs in this context and those copied from it, for hosts of several replicas in a process."""
    _own_replica_context.set(context)


def is_replica() -> bool:
    """Whether this code runs in a replica."""
    return (_own_replica_context.get() or _replica_context) is not None


def get_replica_context() -> ReplicaContext:
    """The replica that this code runs in. Raises FairleadError (``RayServeException``) outside of one."""
    context = _own_replica_context.get() or _replica_context
    if context is None:
        raise FairleadError("`serve.get_replica_context()` may only be called from within a deployment's replica.")
    return context


def _get_internal_replica_context() -> ReplicaContext | None:
    """Ray Serve's private name, commonly used anyway: as :func:`get_replica_context`, None outside of a replica."""
    return _own_replica_context.get() or _replica_context
