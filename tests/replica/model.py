"""A class with methods of every kind, for tests of how calls run."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fairlead.serve.context import get_request_context
from fairlead.serve.response import DeploymentResponse, DeploymentResponseGenerator

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")


class CustomError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"custom {code}")
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return (CustomError, (self.code,))


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Child:
    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


class Model:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started = asyncio.Event()
        self.finished: list[str] = []
        self.produced = 0
        self.child = Child()

    def __call__(self, value: Any = None) -> Any:
        return value

    async def echo(self, *args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    def echo_sync(self, *args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    async def numbers(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            self.produced = number
            yield number
        self.finished.append("numbers")

    def numbers_sync(self, count: int) -> Iterator[int]:
        try:
            for number in range(count):
                self.produced = number
                yield number
        finally:
            self.finished.append("numbers_sync")

    async def numbers_then_error(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number
        raise CustomError(7)

    def numbers_then_error_sync(self, count: int) -> Iterator[int]:
        yield from range(count)
        raise CustomError(7)

    def indirect(self, count: int) -> Any:
        return (number for number in range(count))

    async def indirect_async(self, count: int) -> Any:
        return self.numbers(count)

    def late_coroutine(self, value: Any) -> Any:
        return self.echo(value)

    def fail(self, text: str) -> None:
        raise ValueError(text)

    async def fail_async(self, text: str) -> None:
        raise ValueError(text)

    def fail_with(self, error: BaseException) -> None:
        raise error

    async def fail_with_async(self, error: BaseException) -> None:
        raise error

    def speechless(self) -> None:
        raise Unspeakable

    async def own_type_error(self) -> None:
        raise TypeError("from within")

    async def unawaited(self) -> Any:
        return object.__new__(DeploymentResponse)

    async def unread(self) -> Any:
        return object.__new__(DeploymentResponseGenerator)

    def unserializable(self) -> Any:
        return threading.Lock()

    async def unserializable_async(self) -> Any:
        return {1: {2}}

    async def large(self, size: int) -> bytes:
        return b"x" * size

    async def hang(self) -> None:
        self.started.set()
        get_request_context().adopt(self.child)
        try:
            await asyncio.Event().wait()
        finally:
            self.finished.append("hang")

    async def swallow(self) -> str:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return "went on"

    def block(self) -> str:
        if not self.gate.wait(60):
            raise RuntimeError("never released")
        self.finished.append("block")
        return "released"

    async def endless(self) -> AsyncIterator[str]:
        try:
            while True:
                self.produced += 1
                yield "x" * 1000
        finally:
            self.finished.append("endless")

    def endless_sync(self) -> Iterator[str]:
        try:
            while True:
                self.produced += 1
                yield "x" * 1000
        finally:
            self.finished.append("endless_sync")

    async def total(self, items: AsyncIterator[int], factor: int = 1) -> int:
        return factor * sum([item async for item in items])

    def total_sync(self, items: Iterator[int], factor: int = 1) -> int:
        return factor * sum(items)

    async def running_totals(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        total = 0
        async for item in items:
            total += item
            yield total

    async def remember(self, value: str) -> str:
        before = variable.get()
        variable.set(value)
        return before

    def remember_sync(self, value: str) -> str:
        before = variable.get()
        variable.set(value)
        return before

    async def request_id(self) -> str:
        assert asyncio.current_task() is not None
        return get_request_context().request_id

    def request_id_sync(self) -> tuple[str, bool]:
        return get_request_context().request_id, threading.current_thread() is threading.main_thread()

    async def cancels_itself(self) -> None:
        raise asyncio.CancelledError

    def _private(self) -> None: ...
