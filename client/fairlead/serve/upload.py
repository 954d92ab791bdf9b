"""Client streaming: the items of an asynchronous iterator, sent on a call as the callee takes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from fairlead.serve.caller import Call
from fairlead.serve.waiting import Waitable

ROOM = 16
"""Encoded items that may wait for credit."""

_running: set[asyncio.Task[None]] = set()  # the event loop itself keeps tasks only weakly


class IteratorUpload(Waitable):
    """Feeds one call from one iterator. The iterator runs in the caller's event loop, or in the wire loop.

    Who iterates waits while ``ROOM`` items wait for credit, so a slow callee slows the iterator down.
    """

    __slots__ = ("_blocked", "_call", "_ended", "_items", "_iterator", "_task")

    def __init__(self, call: Call, iterator: AsyncIterator[Any]) -> None:
        super().__init__()
        self._call = call
        self._iterator = iterator
        self._items: deque[bytes] = deque()
        self._ended = False
        self._blocked = False
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether there is room for another item, or no more are wanted."""
        return self.done or len(self._items) < ROOM

    def begin(self) -> None:
        """Starts iterating, in this event loop if there is one."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._call.wire.post(lambda: self._spawn(self._call.wire.loop))
        else:
            self._spawn(loop)

    def _spawn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = task = loop.create_task(self._run())
        _running.add(task)
        task.add_done_callback(_running.discard)
        if self.done:  # in another thread, before there was a task to cancel
            task.cancel()

    async def _run(self) -> None:
        call = self._call
        dumps = call.template.request_codec.dumps
        try:
            async for item in self._iterator:
                if self.done:
                    break
                self._items.append(dumps(item))
                call.wire.post(self.flush)
                if not self.ready:
                    await self.wait()
            self._ended = True
            call.wire.post(self.flush)
        except (Exception, asyncio.CancelledError) as error:
            failure = error
            call.wire.post(lambda: call.give_up(failure))
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            close = getattr(self._iterator, "aclose", None)
            if close is not None and self.done:
                await close()

    def flush(self) -> None:
        """Sends what waits, as far as credit goes."""
        call = self._call
        if self.done or self._blocked or not call.opened:
            return
        while self._items:
            if not call.send(self._items.popleft()):
                self._blocked = True  # the session keeps this one; writable() is called when it has gone out
                break
        else:
            if self._ended:
                self.done = True
                call.send(b"", last=True)  # no codec makes nothing out of something: this is the end, not an item
        if self._waiters and self.ready:
            self.wake(call.wire.deliveries)

    def writable(self) -> None:
        """There is credit again."""
        self._blocked = False
        self.flush()

    def stop(self) -> None:
        """The call is over: the iterator is closed, also one that waits for something before its next item."""
        self.done = True
        self._items.clear()
        if self._waiters:
            self.wake(self._call.wire.deliveries)
        task = self._task
        if task is not None and not self._ended:
            with contextlib.suppress(RuntimeError):  # its loop is closed, and the task with it
                task.get_loop().call_soon_threadsafe(task.cancel)
