"""What methods of typed services get besides their messages: the ``grpc_context``.

Named and shaped as Ray Serve's ``RayServegRPCContext`` and, where that has nothing, as ``grpc.aio.ServicerContext``.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
from google.rpc import status_pb2

from fairlead.v1 import session_pb2

T = TypeVar("T")
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
"""Keys in lower case; values are text, or bytes where the key ends in ``-bin``."""

DETAILS_KEY = "grpc-status-details-bin"
"""The trailing metadata that carries a ``google.rpc.Status`` with details."""


class RpcAborted(Exception):
    """Ends a typed service's call with a status. What ``gRPCContext.abort`` raises; methods may raise it themselves.

    Readable as a ``grpc.RpcError`` is: :meth:`code`, :meth:`details`, :meth:`trailing_metadata`.
    """

    def __init__(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        super().__init__(code, details, tuple(trailing_metadata))
        self._code = code
        self._details = details
        self._trailing = tuple(trailing_metadata)

    def code(self) -> grpc.StatusCode:
        """The status code."""
        return self._code

    def details(self) -> str:
        """The message of the status."""
        return self._details

    def trailing_metadata(self) -> Metadata:
        """The trailing metadata; a ``google.rpc.Status`` with details among it under ``grpc-status-details-bin``."""
        return self._trailing

    def __str__(self) -> str:
        return f"{self._code.name}: {self._details}"


class _Done:
    """What can be awaited and has happened already: generated code for asyncio awaits what other code just calls."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


_DONE = _Done()


class gRPCContext:
    """One call of a typed service's method, as the method sees it. Of that call only; from the method's thread."""

    __slots__ = (
        "_code",
        "_deadline",
        "_details",
        "_head",
        "_header",
        "_initial",
        "_read",
        "_trailing",
        "_write",
        "answered",
        "is_cancelled",
    )

    def __init__(self, header: session_pb2.CallHeader | None = None, deadline: float | None = None) -> None:
        self._header = header or session_pb2.CallHeader()
        self._deadline = deadline
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._initial: Metadata | None = None
        self._trailing: Metadata = ()
        self._read: Callable[[], Awaitable[Any]] | None = None
        self._write: Callable[[Any], Awaitable[None]] | None = None
        self._head: Callable[[Metadata], None] | None = None
        self.answered = False
        """Whether something was sent by :meth:`write` or :meth:`send_initial_metadata`."""
        self.is_cancelled: Callable[[], bool] = bool
        """See :meth:`cancelled`."""

    def __repr__(self) -> str:
        return f"gRPCContext(method={self._header.method!r}, code={self._code}, details={self._details!r})"

    def connect(
        self,
        read: Callable[[], Awaitable[Any]] | None,
        write: Callable[[Any], Awaitable[None]] | None,
        head: Callable[[Metadata], None] | None = None,
    ) -> None:
        """Gives :meth:`read`, :meth:`write` and :meth:`send_initial_metadata` their streams. The replica host calls it.

        ``head`` raises RuntimeError if a message was sent before.
        """
        self._read = read
        self._write = write
        self._head = head

    def finish(self, cancelled: bool) -> None:
        """Says that the call is over: there are no streams any more. The replica host calls it.

        They hold the call, which holds this: they would wait for the garbage collector.
        """
        self._read = _over if self._read is not None else None
        self._write = _over if self._write is not None else None
        self._head = None
        self.is_cancelled = _yes if cancelled else bool

    # -- what the caller sent

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        """The metadata of the call, in the order in which it was sent."""
        return [(entry.key, _value(entry)) for entry in self._header.metadata]

    def peer(self) -> str:
        """Where the caller is, as gRPC writes it: ``ipv4:127.0.0.1:5555``; empty where it is not known."""
        return self._header.peer

    def time_remaining(self) -> float | None:
        """Seconds until the call's deadline, at least 0; None: it has none."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def cancelled(self) -> bool:
        """Whether the caller gave the call up, or its deadline passed."""
        return self.is_cancelled()

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Empty: gateways authenticate callers, and do not tell replicas who they are."""
        return {}

    def peer_identities(self) -> None:
        """None, as :meth:`auth_context`."""
        return

    def peer_identity_key(self) -> None:
        """None, as :meth:`auth_context`."""
        return

    # -- what the caller gets

    def code(self) -> grpc.StatusCode | None:
        """The status code that was set; None: none."""
        return self._code

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status that the call ends with, whether its method returns or raises. Raises TypeError for no code."""
        self._code = _checked_code(code)

    def details(self) -> str:
        """The message that was set."""
        return self._details

    def set_details(self, details: str) -> None:
        """The message of the status."""
        self._details = str(details)

    def trailing_metadata(self) -> Metadata:
        """The trailing metadata that was set."""
        return self._trailing

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Sends metadata with the end of the call. Raises TypeError or ValueError for what gRPC cannot carry."""
        self._trailing = checked_metadata(trailing_metadata)

    def send_initial_metadata(self, initial_metadata: Metadata) -> Awaitable[None]:
        """Sends the head of the response, before any message, and metadata with it; may be awaited.

        It goes at once. Callers who came over plain HTTP get it with the first message or the end: a call that fails
        before has a status of its own there. Once it was sent, the call is not sent to another replica any more.

        Raises TypeError or ValueError for what gRPC cannot carry, RuntimeError after a message or a first time.
        """
        metadata = checked_metadata(initial_metadata)
        if self._initial is not None:
            raise RuntimeError("initial metadata were sent before; they can be sent once")
        if self._head is not None:
            self._head(metadata)
        self._initial = metadata
        self.answered = True
        return _DONE

    def initial_metadata(self) -> Metadata:
        """The initial metadata that was sent."""
        return self._initial or ()

    def set_compression(self, compression: grpc.Compression) -> None:
        """Accepted without effect: the gateway answers with the encodings that the caller takes."""

    def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """Ends the call with a status, by raising :class:`RpcAborted`; with ``await`` before it or without."""
        if _checked_code(code) is grpc.StatusCode.OK:
            raise ValueError("a call is not aborted with the status OK: return from the method")
        raise RpcAborted(code, str(details), (*self._trailing, *checked_metadata(trailing_metadata)))

    def abort_with_status(self, status: Any) -> NoReturn:
        """The same with what ``grpc_status.rpc_status.to_status`` makes, or a ``google.rpc.Status``."""
        if isinstance(status, status_pb2.Status):
            found = next((code for code in grpc.StatusCode if code.value[0] == status.code), grpc.StatusCode.UNKNOWN)
            self.abort(found, status.message, ((DETAILS_KEY, status.SerializeToString()),))
        self.abort(status.code, status.details, status.trailing_metadata or ())

    async def read(self) -> Any:
        """The next message of the caller's stream; ``grpc.aio.EOF`` after the last one. For asynchronous methods."""
        if self._read is None:
            raise RuntimeError("the method's callers send no stream")
        try:
            return await self._read()
        except StopAsyncIteration:
            return grpc.aio.EOF

    async def write(self, message: Any) -> None:
        """Sends a message of the result, for asynchronous methods that neither return nor yield it."""
        if self._write is None:
            raise RuntimeError("the method does not answer with a stream")
        self.answered = True
        await self._write(message)


RayServegRPCContext = gRPCContext  # Ray Serve's name


class gRPCInputStream(AsyncIterator[T]):
    """The messages that a caller streams, as methods get them: an asynchronous iterator, and in threads a plain one.

    Replicas make them. A message that nobody takes stops the caller, whose credit it holds.
    """

    @property
    @abstractmethod
    def is_exhausted(self) -> bool:
        """Whether the end was reached: every message has been taken."""

    @abstractmethod
    def is_cancelled(self) -> bool:
        """Whether the caller gave the call up, or :meth:`cancel` was called."""

    @abstractmethod
    def cancel(self) -> None:
        """Takes no more messages: the iterator ends after those that are here. From any thread."""


def checked_metadata(metadata: Any) -> Metadata:
    """Pairs of keys and values as gRPC can send them; keys in lower case. Raises TypeError or ValueError."""
    pairs = []
    for key, value in metadata or ():
        if not isinstance(key, str) or not isinstance(value, str | bytes):
            raise TypeError(f"metadata consists of pairs of str and str or bytes, not {key!r}: {value!r}")
        name = key.lower()
        if not name or not all(each.isascii() and (each.isalnum() or each in "_-.") for each in name):
            raise ValueError(f"{key!r} cannot be a key of metadata")
        if name.startswith("grpc-") and name != DETAILS_KEY:
            raise ValueError(f"keys of metadata that begin with 'grpc-' are gRPC's own: {key!r}")
        if name.endswith("-bin") != isinstance(value, bytes):
            raise TypeError(f"values of metadata are bytes exactly if the key ends in '-bin': {key!r}")
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            raise ValueError(f"the value of {key!r} is not printable ASCII; keys that end in '-bin' take any bytes")
        pairs.append((name, value))
    return tuple(pairs)


async def _over(*message: Any) -> NoReturn:
    raise RuntimeError("the call is over")


def _yes() -> bool:
    return True


def _checked_code(code: grpc.StatusCode) -> grpc.StatusCode:
    if not isinstance(code, grpc.StatusCode):
        raise TypeError(f"a status code is one of grpc.StatusCode, not {code!r}")
    return code


def _value(entry: session_pb2.Metadata) -> str | bytes:
    return entry.value if entry.key.endswith("-bin") else entry.value.decode("utf-8", "replace")
