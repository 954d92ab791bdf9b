"""A program whose classes travel by value, changes to it, and what code versions its deployments get in one run.

Run as a program it prints the versions of the program and of all changed ones, as JSON by their names.
"""

from __future__ import annotations

import json
import random
import sys
import types

from fairlead.serve.graph import application_spec
from fairlead_gateway.control.desired import deployment_goals

PROGRAM = '''
import abc, collections, dataclasses, enum, functools, typing
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import numpy
from fastapi import FastAPI
from pydantic import BaseModel, Field, TypeAdapter, field_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass

from fairlead import serve
from fairlead.serve.request_router import RequestRouter

T = TypeVar("T", bound=float)
LIMIT = 10
WORDS = {"alpha", "beta", "gamma", "delta"}
ARRAY = numpy.arange(3)
TABLE = {"nested": [{"north", "south", "east"}], ("a", 1): frozenset({"up", "down", "left"})}
PAIR = TypeAdapter(tuple[int, set[str]])

class Color(enum.Enum):
    RED = 1
    BLUE = "b"

class Mode(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()

@dataclasses.dataclass(frozen=True)
class Point:
    x: int = 1
    names: set[str] = dataclasses.field(default_factory=lambda: {"p", "q", "r"})

class Row(NamedTuple):
    key: int
    value: str = "row"

class Words(set):
    size = 3

class Box(Generic[T]):
    def get(self) -> T: ...

@pydantic_dataclass
class Size:
    width: int = 1

class Item(BaseModel):
    name: str = Field(min_length=1)
    count: Annotated[int, Field(gt=0)] = 1
    kind: Literal["big", "small"] = "big"
    parts: "list[Part]" = []

    @field_validator("name")
    @classmethod
    def strip(cls, value: str) -> str:
        return value.strip()

class Part(BaseModel):
    items: list[Item] = []

Item.model_rebuild()

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...
    @abc.abstractmethod
    def name(self) -> str: ...

class Round: ...
class Square: ...
class Other: ...

for kind in (Round, Square, Other):
    Shape.register(kind)

def wrapped(times):
    marks = {"m", "n", "o"}
    def around(function):
        @functools.wraps(function)
        def inner(*args):
            return [function(*args)] * times, marks
        return inner
    return around

def helper(value):
    return (lambda number: number + 5)(value)

class Base:
    def inherited(self) -> int:
        return 6

app = FastAPI()

@serve.deployment
class Counter(Base, Shape):
    """Counts."""

    colors = {Color.RED, Color.BLUE}
    kinds = {Round, Square, Other}
    registry = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    def __call__(self, word: str) -> Any:
        if word in {"one", "two", "three"}:
            return helper(LIMIT), WORDS, TABLE, ARRAY.sum(), Mode.READ, Words, Size, PAIR
        return [part for part in (Point(), Row(1), Box[int]) if part != 7]

    async def item(self, item: Item) -> Part:
        return Part(items=[item])

    @wrapped(2)
    def area(self) -> float:
        return 8.0

    @property
    def name(self) -> str:
        return "name"

    @staticmethod
    def make(default: int = 9) -> int:
        return default

    @classmethod
    def shared(cls, *, key: str = "k") -> str:
        return super().__name__ + key

Counter.func_or_class.registry["self"] = {Counter.func_or_class, Item}

@app.get("/sized")
async def sized(width: int = 4) -> Item: ...

@serve.deployment
@serve.ingress(app)
class Web:
    def __init__(self, counter) -> None:
        self.counter = counter

    @app.post("/items/{number}")
    async def put(self, number: int, item: Item) -> Part:
        return Part(items=[item])

class Router(RequestRouter):
    seen = {"first", "second", "third"}

    async def choose_replicas(self, candidate_replicas, pending_request=None):
        return [candidate_replicas[:14]]

def by_words(context, *, words):
    return len(words) + 13

@serve.deployment(
    autoscaling_config={"policy": {"policy_function": by_words, "policy_kwargs": {"words": {"i", "j", "k"}}}},
    request_router_config={"request_router_class": Router, "request_router_kwargs": {"ids": {"e", "f", "d"}}},
)
def double(word: str) -> str:
    return word * 2

def make_local():
    bonus = 11
    class LocalItem(BaseModel):
        bonus: int = 3
    @serve.deployment
    class Local:
        def __call__(self, item: LocalItem) -> int:
            return item.bonus + bonus
    return Local

counter = Counter.bind(
    Point(3), {"u", "v", "w"}, [Words(["x", "y", "z"])], Row(2), Item(name="item"), Color.BLUE, numpy.ones(2),
    function=lambda value: value + 12, kind=Square, local=make_local().bind(), double=double.bind(),
    ordered=collections.OrderedDict(a={"s", "t"}), default=collections.defaultdict(set, {1: {"g", "h"}}),
)
application = Web.bind(counter)
'''

COUNTER, WEB, LOCAL, DOUBLE, POLICY, ROUTER = "Counter", "Web", "Local", "double", "the policy", "the router"
CHANGES = {
    "constant": ('"one", "two", "three"', '"one", "two", "four"', {COUNTER}),
    "number in a comprehension": ("part != 7", "part != 8", {COUNTER}),
    "global": ("LIMIT = 10", "LIMIT = 11", {COUNTER}),
    "type of a global": ("LIMIT = 10", "LIMIT = 10.0", {COUNTER}),
    "global's name": ("helper(LIMIT)", "helper(WORDS)", {COUNTER}),
    "global set": ('"gamma", "delta"', '"gamma", "omega"', {COUNTER}),
    "global array": ("numpy.arange(3)", "numpy.arange(4)", {COUNTER}),
    "set in a list in a dict": ('"south", "east"', '"south", "west"', {COUNTER}),
    "frozenset": ('"down", "left"', '"down"', {COUNTER}),
    "adapter": ("tuple[int, set[str]]", "tuple[int, set[int]]", {COUNTER}),
    "member of an enum": ('BLUE = "b"', 'BLUE = "c"', {COUNTER}),
    "members of a flag": ("READ = enum.auto()", "READ = 4", {COUNTER}),
    "member in arguments": ("Color.BLUE, numpy", "Color.RED, numpy", {COUNTER}),
    "field's default": ("x: int = 1", "x: int = 2", {COUNTER}),
    "field's factory": ('{"p", "q", "r"}', '{"p", "q"}', {COUNTER}),
    "dataclass's option": ("frozen=True", "frozen=True, order=True", {COUNTER}),
    "tuple's default": ('value: str = "row"', 'value: str = "line"', {COUNTER}),
    "set's attribute": ("size = 3", "size = 4", {COUNTER}),
    "set's base": ("class Words(set)", "class Words(frozenset)", {COUNTER}),
    "bound": ("bound=float", "bound=int", {COUNTER}),
    "generic's argument": ("Box[int]", "Box[float]", {COUNTER}),
    "pydantic dataclass": ("width: int = 1", "width: int = 2", {COUNTER}),
    "constraint": ("Field(gt=0)", "Field(gt=1)", {COUNTER, WEB}),
    "length": ("min_length=1", "min_length=2", {COUNTER, WEB}),
    "literal": ('Literal["big", "small"] = "big"', 'Literal["big", "little"] = "big"', {COUNTER, WEB}),
    "validator": ("value.strip()", "value.lstrip()", {COUNTER, WEB}),
    "model's field": ("items: list[Item] = []", "items: tuple[Item, ...] = ()", {COUNTER, WEB}),
    "registered subclass": ("in (Round, Square, Other)", "in (Round, Square)", {COUNTER}),
    "closure": ("@wrapped(2)", "@wrapped(3)", {COUNTER}),
    "closure's set": ('{"m", "n", "o"}', '{"m", "n", "i"}', {COUNTER}),
    "wrapper's code": ("* times, marks", "* times, times", {COUNTER}),
    "helper's lambda": ("number + 5", "number - 5", {COUNTER}),
    "inherited method": ("return 6", "return 7", {COUNTER}),
    "base class": ("Counter(Base, Shape)", "Counter(Shape, Base)", {COUNTER}),
    "class attribute": ("colors = {Color.RED, Color.BLUE}", "colors = {Color.RED}", {COUNTER}),
    "set of classes": ("kinds = {Round, Square, Other}", "kinds = {Round, Square, Base}", {COUNTER}),
    "cycle": ("{Counter.func_or_class, Item}", "{Counter.func_or_class, Part}", {COUNTER}),
    "signature": ("async def item(self, item: Item)", "async def item(self, item: Part)", {COUNTER}),
    "kind of method": ("@property", "@classmethod", {COUNTER}),
    "default": ("default: int = 9", "default: int = 8", {COUNTER}),
    "keyword's default": ('key: str = "k"', 'key: str = "j"', {COUNTER}),
    "path": ("/items/{number}", "/things/{number}", {WEB}),
    "query's default": ("width: int = 4", "width: int = 5", {WEB}),
    "handler's code": ("async def put(self, number: int, item: Item) -> Part:\n        return Part(items=[item])",
                       "async def put(self, number: int, item: Item) -> Part:\n        return Part(items=[])", {WEB}),
    "function": ("word * 2", "word * 3", {DOUBLE}),
    "local": ("bonus = 11", "bonus = 12", {LOCAL}),
    "local model": ("bonus: int = 3", "bonus: int = 4", {LOCAL}),
    "argument's field": ("Point(3)", "Point(4)", {COUNTER}),
    "set as an argument": ('{"u", "v", "w"}', '{"u", "v"}', {COUNTER}),
    "list as an argument": ("[Words(", "*[Words(", {COUNTER}),
    "set by value as an argument": ('["x", "y", "z"]', '["x", "y"]', {COUNTER}),
    "tuple as an argument": ("Row(2)", "Row(3)", {COUNTER}),
    "model as an argument": ('Item(name="item")', 'Item(name="item", count=2)', {COUNTER}),
    "array as an argument": ("numpy.ones(2)", "numpy.zeros(2)", {COUNTER}),
    "lambda as an argument": ("value + 12", "value + 13", {COUNTER}),
    "class as an argument": ("kind=Square", "kind=Round", {COUNTER}),
    "other deployment": ("double=double.bind()", "double=make_local", {COUNTER, DOUBLE, POLICY, ROUTER}),
    "policy": ("len(words) + 13", "len(words) + 15", {POLICY}),
    "policy's argument": ('{"i", "j", "k"}', '{"i", "j"}', {POLICY}),
    "router": ("candidate_replicas[:14]", "candidate_replicas[:15]", {ROUTER}),
    "router's attribute": ('"second", "third"', '"second", "last"', {ROUTER}),
    "router's argument": ('{"e", "f", "d"}', '{"e", "f"}', {ROUTER}),
    "ordered mapping": ('a={"s", "t"}', 'a={"s", "u"}', {COUNTER}),
    "default mapping": ('{1: {"g", "h"}}', '{1: {"g"}}', {COUNTER}),
}  # fmt: skip
"""By what is changed: a text in the program, what takes its place, and what it is code of."""


def changed(name: str) -> str:
    """The program with one change."""
    old, new, _ = CHANGES[name]
    assert PROGRAM.count(old) == 1, f"{name}: {old!r} stands {PROGRAM.count(old)} times in the program"
    return PROGRAM.replace(old, new)


def versions(source: str) -> dict[str, str]:
    """The code versions of a program's deployments by name, and the digests of its policy and its router."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(source, "program.py", "exec", dont_inherit=True), module.__dict__)
    spec = application_spec(module.application)
    found = {name: goal.code_version for name, goal in deployment_goals(spec).items()}
    for deployment in spec.deployments:
        if deployment.settings.HasField("request_router"):
            found[POLICY] = deployment.settings.autoscaling.policy_digest
            found[ROUTER] = deployment.settings.request_router.digest
    return found


def main() -> None:
    """Prints the versions of all of them, worked out in any order: addresses differ from run to run, too.

    With an argument those of the unchanged program alone, several times.
    """
    sources = {"": PROGRAM} | {f"again {number}": PROGRAM for number in range(5)}
    if len(sys.argv) == 1:
        sources |= {name: changed(name) for name in CHANGES}
    names = list(sources)
    random.shuffle(names)
    print(json.dumps({name: versions(sources[name]) for name in names}))


if __name__ == "__main__":
    main()
