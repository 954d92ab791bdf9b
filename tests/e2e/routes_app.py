"""Methods bound to HTTP paths, in all the ways that the tests call them."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import pydantic
from starlette import convertors
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from fairlead import serve
from fairlead.serve.handle import DeploymentHandle
from tests.e2e.stage import Stage


class Hex(convertors.Convertor[int]):
    regex = "[0-9a-z]+"

    def convert(self, value: str) -> int:
        return int(value, 16)

    def to_string(self, value: int) -> str:
        return f"{value:x}"


convertors.register_url_convertor("hex", Hex())


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Size:
    width: int
    height: int = 1


class Item(pydantic.BaseModel):
    """Something to sell."""

    name: str
    price: decimal.Decimal
    tags: list[str] = []
    size: Size | None = None


@serve.deployment(max_ongoing_requests=20)
class Slow:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def wait(self, key: str) -> None:
        self.stage.note(f"{key} child runs")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.stage.note(f"{key} child cancelled")
            raise


@serve.deployment(max_ongoing_requests=20)
class Shop:
    """Everything at once."""

    def __init__(self, stage: Stage, slow: DeploymentHandle) -> None:
        self.stage = stage
        self.slow = slow

    @serve.route("/items/{number:int}")
    def item(
        self,
        number: int,
        color: Color = Color.RED,
        tags: list[str] | None = None,
        at: datetime.datetime | None = None,
        level: Literal[1, 2] = 1,
        ratio: float | None = None,
    ) -> dict[str, object]:
        """Shows one item.

        With all that the query says of it.
        """
        return {"number": number, "color": color, "tags": tags, "at": at, "level": level, "ratio": ratio}

    @serve.route("/items", methods=["POST"])
    async def create(self, item: Item, dry_run: bool = False) -> Item:
        """Adds an item."""
        return item.model_copy(update={"name": f"{item.name} {dry_run}"})

    @serve.route("/items/{number:int}", methods=["PUT", "PATCH"])
    def change(self, number: int, item: Item, size: Size) -> list[object]:
        """Changes an item."""
        return [number, item, size]

    @serve.route("/add", methods=["GET", "POST"])
    def add(self, a: int, b: int = 1) -> int:
        """Adds two numbers."""
        return a + b

    @serve.route("/total", methods=["POST"])
    async def total(self, numbers: list[float]) -> float:
        """Adds many numbers."""
        return sum(numbers)

    @serve.route("/ids/{one:uuid}/{rest:path}")
    def ids(self, one: uuid.UUID, rest: str, request: Request) -> dict[str, object]:
        """Shows what a path says."""
        return {"one": one, "rest": rest, "params": sorted(request.path_params), "method": request.method}

    @serve.route("/api/{user_id:int}/{number:float}")
    def handler(self, request: Request) -> str:
        """A request handler."""
        return repr(request.path_params)

    @serve.route("/hex/{number:hex}")
    def from_hex(self, number: int) -> int:
        """Reads a number by a converter of one's own."""
        return number

    @serve.route("/count/{upto:int}")
    async def count(self, upto: int, fail_at: int = -1, status: int = 0) -> AsyncIterator[dict[str, int]]:
        """Counts."""
        for number in range(upto):
            if number == fail_at:
                if status:
                    raise HTTPException(status, "on purpose")
                raise ValueError("a secret")
            yield {"number": number}

    @serve.route("/letters")
    def letters(self) -> Iterator[str]:
        """A generator that runs in a thread."""
        yield from "ab"

    @serve.route("/steps/{key}")
    async def steps(self, key: str) -> AsyncIterator[str]:
        """Yields, waits for the gate, and yields again."""
        yield "first"
        await self.stage.pass_gate(key)
        yield "second"

    @serve.route("/fail/{how}", methods=["POST"])
    def fail(self, how: str) -> object:
        """Fails."""
        if how == "teapot":
            raise HTTPException(418, "short and stout", headers={"X-Own": "1"})
        if how == "response":
            return JSONResponse({"made": True}, status_code=201)
        raise ValueError("a secret")

    @serve.route("/wait/{key}")
    async def wait(self, key: str) -> None:
        """Waits for a child that never ends."""
        await self.slow.wait.remote(key)


@serve.deployment
class Rest:
    """Has routes and a request handler."""

    @serve.route("/known")
    def known(self) -> str:
        """Is known."""
        return "route"

    async def __call__(self, request: Request) -> str:
        return f"handler {request.url.path}"


@serve.deployment
@serve.route("/double")
def double(value: int) -> int:
    """Doubles a number."""
    return value * 2
