"""The replica's lease: its registration with the controller, kept on threads of its own.

The synchronous gRPC API serves it from its own threads, so that a method of the user's that blocks or spins on the
event loop does not get its replica declared dead.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator

import grpc

from fairlead.v1 import replica_pb2, replica_pb2_grpc

logger = logging.getLogger(__name__)

REPORT_PERIOD_S = 0.5
FIRST_BACKOFF_S = 0.05
LONGEST_BACKOFF_S = 2.0

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # the user's code and constructor arguments come this way
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class Lease:
    """The replica's side of ``ReplicaService.Register``. Its methods may be called on any thread."""

    def __init__(
        self,
        controller: str,
        hello: Callable[[], replica_pb2.ReplicaHello],
        *,
        on_command: Callable[[replica_pb2.RegisterResponse], None],
        on_abandoned: Callable[[], None],
        report: Callable[[], replica_pb2.ReplicaReport | None],
        patience_s: float,
    ) -> None:
        """Prepares a lease with the controller at an address.

        ``hello`` says at each registration who this is, ``on_command`` gets what the controller says, ``on_abandoned``
        hears when it could not be reached for ``patience_s`` seconds, ``report`` is asked twice a second; all of them
        on the lease's threads.
        """
        self._controller = controller
        self._hello = hello
        self._ready: replica_pb2.RegisterRequest | None = None
        self._on_command = on_command
        self._on_abandoned = on_abandoned
        self._report = report
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._events: queue.SimpleQueue[replica_pb2.RegisterRequest | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._registered = False
        self._hung_up = False
        self._thread = threading.Thread(target=self._keep, name="fairlead-lease", daemon=True)

    def __repr__(self) -> str:
        state = "closing" if self._closing.is_set() else "registered" if self._registered else "not registered"
        return f"<Lease with {self._controller} {state}>"

    def start(self) -> None:
        """Registers, and goes on doing so whenever the controller is lost."""
        self._thread.start()

    def ready(self, address: str) -> None:
        """Says that the replica can be called; again after each time that the controller was lost."""
        event = replica_pb2.RegisterRequest(ready=replica_pb2.ReplicaReady(address=address))
        with self._lock:
            self._ready = event
            self._events.put(event)

    def say(self, event: replica_pb2.RegisterRequest) -> None:
        """Says something once. Lost with the controller."""
        with self._lock:
            self._events.put(event)

    def close(self, last: replica_pb2.RegisterRequest | None = None, timeout_s: float = 2.0) -> bool:
        """Says a last thing, hangs up, and waits for the controller to have heard it; whether it has. Blocks."""
        with self._lock:
            self._closing.set()
            if last is not None:
                self._events.put(last)
            self._events.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return self._hung_up

    def _keep(self) -> None:
        backoff = FIRST_BACKOFF_S
        lost_at = time.monotonic()
        while not self._closing.is_set():
            try:
                if self._register():
                    lost_at = time.monotonic()
                    backoff = FIRST_BACKOFF_S
            except grpc.RpcError as error:
                logger.debug("the lease is lost: %s", error)
            if self._closing.is_set():
                return
            if time.monotonic() - lost_at > self._patience_s:
                logger.warning("no controller for %.0f s; this replica drains and ends", self._patience_s)
                self._on_abandoned()
                return
            self._closing.wait(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_S)

    def _register(self) -> bool:
        """One registration, until it ends. Whether the controller took it; its loss may also raise RpcError."""
        events: queue.SimpleQueue[replica_pb2.RegisterRequest | None] = queue.SimpleQueue()
        with self._lock:
            events.put(replica_pb2.RegisterRequest(hello=self._hello()))
            if self._ready is not None:
                events.put(self._ready)
            if self._closing.is_set():
                return False
            self._events = events
        self._registered = False
        with grpc.insecure_channel(self._controller, options=_OPTIONS) as channel:
            stub = replica_pb2_grpc.ReplicaServiceStub(channel)
            try:
                for command in stub.Register(self._say(events)):
                    self._registered = True
                    self._on_command(command)
                self._hung_up = self._closing.is_set()
            except grpc.RpcError:
                if not self._registered:
                    raise
            finally:
                events.put(None)  # ends the generator, and with it gRPC's thread that reads it
        return self._registered

    def _say(
        self, events: queue.SimpleQueue[replica_pb2.RegisterRequest | None]
    ) -> Iterator[replica_pb2.RegisterRequest]:
        """What goes to the controller: events at once, and a report when there was none for a while."""
        due = time.monotonic() + REPORT_PERIOD_S
        while True:
            try:
                event = events.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                due = time.monotonic() + REPORT_PERIOD_S
                report = self._report()
                if report is None:
                    continue
                event = replica_pb2.RegisterRequest(report=report)
            if event is None:
                return
            yield event
