"""A class with a hint of every kind."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict

import numpy as np
import numpy.typing as npt
import pydantic
from starlette.requests import Request

from fairlead import serve

ItemId = NewType("ItemId", int)


class HTTPColour(enum.Enum):
    """Colours of things."""

    RED = "r"
    """The colour of fire."""
    darkBlue = "b"


@dataclass
class Part:
    """A part of an item.

    Parts have parts.
    """

    name: str
    """What it is called.

    In English.
    """
    parts: list[Part] = field(default_factory=list)
    colour: HTTPColour = HTTPColour.RED
    whole: Part | None = None
    secret: str = field(default="", init=False)


class Price(pydantic.BaseModel):
    amount: decimal.Decimal = pydantic.Field(description="In euros.")
    rows: list[list[float]]
    by_day: dict[str, list[int | None]] = {}
    steps: list[int] = [1, 2]
    since: datetime.datetime
    until: datetime.timedelta | None = None


class Place(NamedTuple):
    x: int
    y: float = 1.5


class Filter(TypedDict, total=False):
    kind: str


class OrderRequest(pydantic.BaseModel):
    """What is ordered."""

    item: ItemId


class _Base:
    def inherited(self) -> bool:
        """Comes from the base class."""
        return True


class Shop(_Base):
    """Sells things.

    All day   long.
    """

    limit = 10

    def __init__(self, name: Any) -> None:
        self.name = name

    def find(self, text: str, limit: int = 10, *, mode: Literal["a", "b"] = "a", imageURL: str | None = None) -> Part:
        """Finds a part."""
        raise NotImplementedError

    async def order(self, request: OrderRequest) -> AsyncIterator[Price]:
        """Orders an item."""
        raise NotImplementedError
        yield

    def measure(
        self,
        pixels: npt.NDArray[np.float32],
        mask: np.ndarray,
        level: np.int8,
        only: Filter,
        at: Place,
        ids: set[uuid.UUID],
        parts: Mapping[int, Part],
        note: Annotated[bytes, "anything"],
    ) -> None: ...

    async def total(self, prices: AsyncIterator[float], scale: float = 1.0) -> float:
        raise NotImplementedError

    def sort(self, items: Iterator[Part]) -> Iterator[dict[str, Sequence[HTTPColour]]]:
        raise NotImplementedError

    @serve.batch
    async def price(self, items: list[str], days: list[datetime.date]) -> list[float | None]:
        """Prices, many at once."""
        raise NotImplementedError

    @staticmethod
    def version() -> tuple[int, ...]:
        return (1,)

    def __call__(self, request: Request) -> str:
        return "HTTP"

    def _private(self, anything): ...  # type: ignore[no-untyped-def]

    def reconfigure(self, config): ...  # type: ignore[no-untyped-def]

    @serve.multiplexed
    async def load(self, model_id: str) -> object:
        return object()

    @property
    def size(self) -> int:
        return 1
