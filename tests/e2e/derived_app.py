"""Applications whose type hints are their contracts, or are not."""

from __future__ import annotations

import datetime
import enum
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field
from starlette.requests import Request

from fairlead import serve
from fairlead.serve.handle import DeploymentHandle


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Book:
    title: str
    pages: int
    sold: datetime.datetime | None = None
    tags: list[str] = field(default_factory=list)


class Order(BaseModel):
    book: Book
    copies: int = Field(1, gt=0)
    size: Size = Size.SMALL


@serve.typed(package="stock.v2")
@serve.deployment
class Stock:
    """Not an ingress deployment, and typed because it says so."""

    def count(self, title: str) -> int:
        return len(title)


@serve.deployment
class Library:
    def __init__(self, stock: DeploymentHandle[Any]) -> None:
        self._stock = stock

    def __call__(self, request: Request) -> str:
        return f"any other path: {request.url.path}"

    async def order(self, order: Order, /, note: str | None = None) -> Order:
        """Orders books."""
        if note is not None:
            order.book.tags.append(note)
        return order

    def double(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return values * 2

    def pages(self, book: Book) -> Iterator[Book]:
        for page in range(book.pages):
            yield Book(f"{book.title}, page {page}", page)

    async def total(self, pages: AsyncIterator[Book]) -> int:
        return sum([book.pages async for book in pages])

    async def scaled(self, pages: AsyncIterator[Book], scale: int = 1) -> int:
        return sum([book.pages async for book in pages]) * scale

    async def stamped(self, pages: AsyncIterator[Book], stamp: Size, grpc_context: Any) -> AsyncIterator[str]:
        grpc_context.set_trailing_metadata([("stamp", stamp.value)])
        async for book in pages:
            yield f"{book.title} {stamp.name}"

    def joined(self, titles: Iterator[str], separator: str = ", ") -> str:
        return separator.join(titles)

    def numbered(self, titles: Iterator[str], first: int) -> Iterator[str]:
        for number, title in enumerate(titles, first):
            yield f"{number}. {title}"

    def lie(self) -> int:
        return "not a number"  # type: ignore[return-value]

    async def in_stock(self, titles: list[str]) -> dict[str, int]:
        return {title: await self._stock.count.remote(title) for title in titles}


class Unhinted:
    def echo(self, value):  # type: ignore[no-untyped-def]
        return value


class Doubler:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
    async def double(self, value: list[int]) -> list[int]:
        return [2 * each for each in value]


def shout(text: str, times: int = 1) -> str:
    return text.upper() * times


library = Library.bind(Stock.bind())
unhinted = serve.deployment(Unhinted).bind()
function = serve.deployment(shout).bind()
batched = serve.deployment(Doubler).bind()
