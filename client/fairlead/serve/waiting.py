"""Waiting for something that happens on the wire loop, from any thread and any event loop, without a lock per call."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from fairlead.serve.deliveries import Deliveries

LockType = type(threading.Lock())
Waiter = Any
"""What is woken: a future (of any loop), a held lock, or a function without arguments, called on the wire loop."""


class Waitable:
    """Something that others wait for. It says when there is something to see by ``ready``.

    Appending to and popping from a list are atomic, so this needs no lock: a waiter is added first and ``ready`` looked
    at afterwards; whoever makes it ready does so first and wakes the waiters afterwards. None is missed.
    """

    __slots__ = ("_waiters", "done")

    def __init__(self) -> None:
        self.done = False
        self._waiters: list[Waiter] = []

    @property
    def ready(self) -> bool:
        """Whether there is something to see."""
        return self.done

    def add(self, waiter: Waiter) -> bool:
        """Registers a waiter, to be woken once. False: there is something to see already, and it is not registered."""
        self._waiters.append(waiter)
        if self.ready:
            return not self.discard(waiter)
        return True

    def discard(self, waiter: Waiter) -> bool:
        """Takes a waiter back. False: it has been woken, or is about to be."""
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return False
        return True

    def wake(self, deliveries: Deliveries) -> None:
        """Wakes all waiters. On the wire loop."""
        waiters = self._waiters
        while waiters:
            try:
                waiter = waiters.pop()
            except IndexError:  # its thread took it back meanwhile
                return
            if type(waiter) is LockType:
                waiter.release()
            elif callable(waiter):
                waiter()
            else:
                deliveries.resolve(waiter)

    async def wait(self) -> None:
        """Returns when there is something to see. Cancelling it has no effect on what is waited for."""
        future = asyncio.get_running_loop().create_future()
        if self.add(future):
            try:
                await future
            except asyncio.CancelledError:
                self.discard(future)
                raise

    def wait_blocking(self, timeout_s: float | None) -> bool:
        """Blocks this thread until there is something to see, or for ``timeout_s`` seconds; whether there is."""
        lock = threading.Lock()
        lock.acquire()
        if not self.add(lock):
            return True
        seconds = -1.0 if timeout_s is None else min(max(timeout_s, 0.0), threading.TIMEOUT_MAX)
        try:
            return lock.acquire(timeout=seconds) or not self.discard(lock)
        except BaseException:  # Ctrl-C
            self.discard(lock)
            raise


def in_event_loop() -> bool:
    """Whether this code runs in an event loop, which it must not block."""
    return asyncio._get_running_loop() is not None
