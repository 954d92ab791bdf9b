"""A slot of one replica, held before there is a call to run in it: ``choose_replica`` and ``dispatch``."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from fairlead.serve.call_template import CallTemplate
from fairlead.serve.caller import Call, Wire
from fairlead.serve.context import RequestContext
from fairlead.v1 import session_pb2
from fairlead.wire.errors import InternalError
from fairlead.wire.stream import Stream


class ReserveCall(Call):
    """A call that holds a slot, from when the gateway says which one to when the slot is used or given back."""

    __slots__ = ("_lock", "_over", "selection")

    def __init__(
        self, template: CallTemplate, wire: Wire, request_id: str, parent: RequestContext | None = None
    ) -> None:
        super().__init__(template, wire, request_id, parent)
        self.selection: session_pb2.ReplicaSelection | None = None
        """What is held; None: it waits for a slot."""
        self._lock = threading.Lock()
        self._over = ""

    @property
    def ready(self) -> bool:
        """Whether there is a slot, or there will be none."""
        return self.selection is not None or self.done

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        """The slot. The deadline was for waiting."""
        if self.done or self.selection is not None:
            return
        self.selection = session_pb2.ReplicaSelection.FromString(payload)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiters:
            self.wake(self.wire.deliveries)

    def _may_send_again(self, stream: Stream) -> bool:
        return self.selection is None and super()._may_send_again(stream)

    def use(self) -> session_pb2.ReplicaSelection:
        """What is held, for the one call that uses it. Raises RuntimeError if it was used, or given back."""
        with self._lock:
            if self._over:
                raise RuntimeError(self._over)
            self._over = "the replica selection was dispatched already: each is for one call"
        selection = self.selection
        assert selection is not None
        return selection

    def give_back(self) -> None:
        """Ends the reservation, unless a call uses it: then the gateway does."""
        with self._lock:
            if self._over:
                return
            self._over = "the replica selection has ended with its `async with` block, and so has its slot"
        self.cancel()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaSelection:
    """The replica of which ``choose_replica`` holds a slot, for one ``dispatch`` within the ``async with`` block.

    Everything runs on one machine and replicas listen on Unix sockets, so that some fields always say the same.
    """

    replica_id: str
    """The replica."""
    node_ip: str = "127.0.0.1"
    """The machine's address."""
    port: int | None = None
    """Always None: replicas have no port."""
    node_id: str = "localhost"
    """The machine."""
    availability_zone: str | None = None
    """Always None."""
    replica_metadata: dict[str, Any] = field(default_factory=dict)
    """Always empty."""
    address: str = ""
    """The replica's Unix socket, for logs; empty where the gateway does not trust this process."""
    _reservation: ReserveCall = field(repr=False, compare=False)
    _deployment: tuple[str, str] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return {name: getattr(self, name) for name in _FIELDS}

    def use(self, app_name: str, deployment_name: str) -> tuple[ReserveCall, str]:
        """The reservation and its id, for the call that uses it.

        Raises ValueError if it is another deployment's, RuntimeError if it was used, or the block has been left.
        """
        if self._deployment != (app_name, deployment_name):
            app, name = self._deployment
            raise ValueError(
                f"the replica selection is of deployment '{name}' in application '{app}'; it cannot be dispatched to "
                f"deployment '{deployment_name}' in application '{app_name}'"
            )
        return self._reservation, self._reservation.use().reservation_id

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ReplicaSelection holds a slot for this process: pass to_dict() on instead")


_FIELDS = ("replica_id", "node_ip", "port", "node_id", "availability_zone", "replica_metadata", "address")


@asynccontextmanager
async def reserved(
    make: Callable[[], ReserveCall], app_name: str, deployment_name: str
) -> AsyncIterator[ReplicaSelection]:
    """Waits for a slot, and holds it until it is used or the block is left."""
    call = make()
    try:
        call.wire.post(call.start)
        await call.wait()
        held = call.selection
        if held is None:
            raise call.failure() or InternalError("the reservation ended without a replica")
        yield ReplicaSelection(
            replica_id=held.replica_id,
            address=held.address,
            _reservation=call,
            _deployment=(app_name, deployment_name),
        )
    finally:
        call.give_back()
