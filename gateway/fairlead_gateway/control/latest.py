"""A value whose readers care for the latest one only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Holds a value and wakes those who wait for another one. A slow reader skips values, and holds up nobody.

    Used on one event loop.
    """

    def __init__(self, value: T) -> None:
        self._value = value
        self._changed = asyncio.Event()

    @property
    def value(self) -> T:
        """The latest value."""
        return self._value

    def set(self, value: T) -> None:
        """Replaces the value, and wakes the readers if it differs."""
        if value == self._value:
            return
        self._value = value
        self._changed.set()
        self._changed = asyncio.Event()

    async def changes(self) -> AsyncIterator[T]:
        """The value now, then each time it has changed. Never ends; cancelling it leaves nothing behind."""
        while True:
            changed = self._changed
            yield self._value
            await changed.wait()
