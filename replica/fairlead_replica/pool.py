"""A bounded pool of threads for the user's synchronous code, and the way back to the event loop.

``concurrent.futures`` would do the same at several times the cost per call, and keeps the process alive for a thread
that never returns; these threads are daemons.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable


class Mailbox:
    """Runs callbacks from any thread on the event loop: one wake-up for however many were posted meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._posted: deque[Callable[[], None]] = deque()
        self._awake = False

    def post(self, callback: Callable[[], None]) -> None:
        """Runs ``callback`` on the loop, in the order of posting. Dropped if the loop is closed."""
        self._posted.append(callback)
        if not self._awake:
            self._awake = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:  # the loop is closed: nobody is there to hear
                self._posted.clear()

    def _run(self) -> None:
        self._awake = False  # before looking, so that whoever posts after the last look wakes us again
        posted = self._posted
        while posted:
            posted.popleft()()


class ThreadPool:
    """At most ``size`` daemon threads, started when they are first needed. ``submit`` belongs to the event loop."""

    def __init__(self, size: int, mailbox: Mailbox, *, name: str = "fairlead-sync") -> None:
        self.size = size
        self.mailbox = mailbox
        self._name = name
        self._work: queue.SimpleQueue[tuple[Callable[[], None], Callable[[], None]] | None] = queue.SimpleQueue()
        self._threads = 0
        self._unfinished = 0

    def __repr__(self) -> str:
        return f"<ThreadPool {self._unfinished} running or waiting, {self._threads} of {self.size} threads>"

    def submit(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        """Runs ``work`` in a thread, then ``done`` on the event loop. ``work`` must not raise."""
        self._unfinished += 1
        if self._threads < min(self._unfinished, self.size):
            self._threads += 1
            threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
        self._work.put((work, done))

    def grow(self, size: int) -> None:
        """Allows more threads. Fewer are not enforced: idle threads cost next to nothing."""
        self.size = max(self.size, size)

    def close(self) -> None:
        """Lets idle threads end. Threads that run the user's code are not waited for."""
        for _ in range(self._threads):
            self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, done = item
            work()
            self.mailbox.post(lambda done=done: self._finished(done))  # type: ignore[misc]
            del item, work, done  # the last call's arguments and result must not live until the next one

    def _finished(self, done: Callable[[], None]) -> None:
        self._unfinished -= 1
        done()
