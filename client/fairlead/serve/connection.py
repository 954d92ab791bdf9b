"""The process's one session to its gateway, and the loop it lives on.

In a replica that is the replica's own main loop (:func:`use_loop`); anywhere else a loop in a daemon thread, started
when the first call is made. Calls from other threads are queued and the loop is woken once per burst.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context

from fairlead.serve.caller import Call
from fairlead.serve.deliveries import Deliveries
from fairlead.serve.wireloop import WireThread
from fairlead.wire.credentials import NONE, Credentials
from fairlead.wire.dial import dial
from fairlead.wire.errors import ConnectionLostError, FairleadError
from fairlead.wire.grpc_link import SERVING_SESSION
from fairlead.wire.link import Link
from fairlead.wire.local import SCHEME
from fairlead.wire.trust import Trust

logger = logging.getLogger(__name__)

PATIENCE_S = 15.0
"""Seconds that calls wait for a gateway that cannot be reached: it may be about to be restarted."""
SILENT_S = 1.0
"""When it takes longer than that, it is said what calls wait for."""
FIRST_BACKOFF_S = 0.02
LONGEST_BACKOFF_S = 1.0

NOT_CONNECTED = (
    "this process is not connected to a Fairlead instance: call serve.run(...) or serve.start() first, "
    "or set FAIRLEAD_ADDRESS and call serve.start()"
)

FORKED = (
    "this process was forked from one that had called Fairlead over TCP, which gRPC does not survive: make the first "
    "call in each process after the fork; handles may be made before"
)

Connector = Callable[[str], Awaitable[Link]]
"""Opens a session with an address."""


class Connection:
    """A session that is opened when it is needed, and again when it was lost."""

    def __init__(self, connector: Connector | None = None) -> None:
        """``connector``: None: as the address says, with the credentials."""
        self._connector = connector
        self.address = ""
        self.alternates: tuple[str, ...] = ()
        """Where else it can go while the address cannot be reached: the other gateway workers."""
        self.trust = Trust.UNTRUSTED
        self.credentials = NONE
        self.grpc_is_lost = False
        """Whether this process was forked from one that used gRPC: nothing can be called over it any more."""
        self.loop: asyncio.AbstractEventLoop
        self.deliveries: Deliveries
        self._ident = 0  # the thread of the wire loop; 0: there is no loop yet
        self._thread: WireThread | None = None
        self._starting = threading.Lock()
        self._inbox: deque[Callable[[], None]] = deque()
        self._woken = False
        self._link: Link | None = None
        self._waiting: list[Call] = []
        self._connecting: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return (
            f"<Connection {self.address or 'nowhere'} {self.trust.value} waiting={len(self._waiting)} {self._link!r}>"
        )

    # -- from any thread

    def set_address(
        self, address: str, trust: Trust, credentials: Credentials = NONE, alternates: tuple[str, ...] = ()
    ) -> None:
        """Says where the gateway is, what it is trusted with, and what to prove to it. Calls under way go on."""
        self.alternates = alternates
        if (address, trust, credentials) != (self.address, self.trust, self.credentials):
            self.address, self.trust, self.credentials = address, trust, credentials
            if self._ident:
                self.post(self._leave)

    def use_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Makes a loop the wire loop. To be called in its thread, before the first call."""
        with self._starting:
            if self._ident:
                raise RuntimeError("the wire loop runs already: use_loop() comes before the first call")
            self._adopt(loop, threading.get_ident())

    def post(self, action: Callable[[], None]) -> None:
        """Runs an action on the wire loop: at once if this is its thread, else soon, one wake-up for many."""
        if threading.get_ident() == self._ident:
            action()
        else:
            self.post_later(action)

    def post_later(self, action: Callable[[], None]) -> None:
        """Runs an action on the wire loop soon, never at once: for what is called in the midst of anything."""
        self._inbox.append(action)
        if not self._woken:
            if not self._ident:
                self._start_thread()
            self._woken = True
            self.loop.call_soon_threadsafe(self._drain)

    def running_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that this code runs in; as asyncio's, without its system call on the wire loop."""
        return self.loop if threading.get_ident() == self._ident else asyncio.get_running_loop()

    def close(self) -> None:
        """Ends the session; its calls fail with ConnectionLostError. The next call needs a new ``set_address``.

        Blocks until the loop's thread has ended, if there is one. Not from the wire loop.
        """
        self.address = ""
        thread = self._thread
        if thread is not None and threading.get_ident() != self._ident:
            thread.run(self._close())
            with self._starting:
                self._thread = None
                self._ident = 0
            thread.stop()

    async def aclose(self) -> None:
        """As ``close``, on the wire loop; for processes that gave their own loop."""
        self.address = ""
        await self._close()

    # -- the loop

    def _start_thread(self) -> None:
        with self._starting:
            if not self._ident:
                self._thread = thread = WireThread()
                self._adopt(thread.loop, thread.ident)

    def _adopt(self, loop: asyncio.AbstractEventLoop, ident: int) -> None:
        self.loop = loop
        self.deliveries = Deliveries(loop)
        self._woken = False
        self._ident = ident

    def _drain(self) -> None:
        self._woken = False
        inbox = self._inbox
        while inbox:
            action = inbox.popleft()
            try:
                action()
            except Exception:  # a defect must not stop the other calls
                logger.exception("an action on the wire loop failed")

    # -- on the wire loop: what calls need

    def link_for(self, call: Call) -> Link | None:
        """The link to open a call on. None: there is none yet; the call is started when there is, or failed."""
        link = self._link
        if link is not None and not link.draining:
            return link
        if not self.address:
            call.finish(FairleadError(NOT_CONNECTED))
            return None
        if self.grpc_is_lost and not self.address.startswith(SCHEME):
            call.finish(FairleadError(FORKED))
            return None
        self._waiting.append(call)
        if self._connecting is None:
            self._start_dialling()
        return None

    def dropped(self, link: Link) -> None:
        """Forgets a link that takes no further calls; those that it carries go on."""
        if link is self._link:
            self._link = None

    def _leave(self) -> None:
        """The address has changed: further calls go to the new one."""
        link, self._link = self._link, None
        if link is not None:
            self._retire(link)
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
            if self._waiting and self.address:
                self._start_dialling()

    def _retire(self, link: Link) -> None:
        """Closes a link when the calls that it carries have ended."""

        def close_if_idle() -> None:
            if not link.session.streams and not link.closed and not closing:
                closing.append(self.loop.create_task(link.close(), context=Context()))

        closing: list[asyncio.Task[None]] = []
        link.on_packet = close_if_idle
        link.goodbye()
        close_if_idle()

    def _start_dialling(self) -> None:
        # In a context of its own: the link outlives the request that happens to need it first.
        self._connecting = self.loop.create_task(self._dial(), context=Context())

    async def _dial(self) -> None:
        give_up_at = self.loop.time() + PATIENCE_S
        tell_at: float | None = self.loop.time() + SILENT_S
        backoff = FIRST_BACKOFF_S
        while True:
            try:
                link = await self._open()
                break
            except ConnectionLostError as error:
                if self.loop.time() + backoff > give_up_at:
                    self._connecting = None
                    self._fail_waiting(ConnectionLostError(f"gave up reaching the gateway: {error.message}"))
                    return
                if tell_at is not None and self.loop.time() >= tell_at:
                    tell_at = None
                    logger.warning("%s; trying for %.0f s more", error.message, give_up_at - self.loop.time())
            except FairleadError as error:  # trying again would not help
                self._connecting = None
                self._fail_waiting(error)
                return
            self._waiting = [call for call in self._waiting if not call.done]
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_S)
        self._connecting = None
        self._link = link
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.start()

    async def _open(self) -> Link:
        *others, last = self.address, *self.alternates
        for address in others:
            try:
                return await self._open_at(address)
            except ConnectionLostError:
                continue
        return await self._open_at(last)

    async def _open_at(self, address: str) -> Link:
        if self._connector is not None:
            return await self._connector(address)
        return await dial(address, SERVING_SESSION, credentials=self.credentials)

    def _fail_waiting(self, error: FairleadError) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.finish(error)

    async def _close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._fail_waiting(ConnectionLostError("the connection was closed"))
        link, self._link = self._link, None
        if link is not None:
            await link.close()


_current: Connection | None = None
_lock = threading.Lock()


def current() -> Connection:
    """The process's connection; it may have no address yet."""
    return _current or _make()


def _make() -> Connection:
    global _current
    with _lock:
        if _current is None:
            _current = Connection()
            os.register_at_fork(after_in_child=_forget)
            atexit.register(close)
        return _current


def _forget() -> None:
    """In a forked child: the parent's session and thread are not there; the address holds."""
    global _current, _lock
    parents, _lock = _current, threading.Lock()
    if parents is not None:
        _current = Connection(parents._connector)
        _current.address, _current.trust, _current.alternates = parents.address, parents.trust, parents.alternates
        _current.credentials = parents.credentials
        over_grpc = parents._connector is None and not parents.address.startswith(SCHEME)
        _current.grpc_is_lost = parents.grpc_is_lost or (over_grpc and parents._ident != 0)


def use(connection: Connection | None) -> Connection | None:
    """Makes another connection the process's, and returns the one before. For tests and local testing mode."""
    global _current
    before, _current = _current, connection
    return before


def set_address(address: str, trust: Trust, credentials: Credentials = NONE, alternates: tuple[str, ...] = ()) -> None:
    """Says where this process's gateway is, what it is trusted with, and what to prove there. From any thread."""
    current().set_address(address, trust, credentials, alternates)


def spread(addresses: Sequence[str], key: int) -> tuple[str, tuple[str, ...]]:
    """Of several gateway workers the one to use and the others, in turn; other keys use others first."""
    first = key % len(addresses)
    return addresses[first], (*addresses[first + 1 :], *addresses[:first])


def use_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Makes the running loop the wire loop; for replica hosts, before the first call, in the loop's thread."""
    current().use_loop(loop)


def close() -> None:
    """Ends the process's session, if there is one. Calls fail until ``set_address`` is called again."""
    if _current is not None:
        _current.close()
