from __future__ import annotations

import dataclasses
import enum
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.serve.derived.errors import LockFileError
from fairlead.serve.derived.lock import LockedService, advance
from fairlead.serve.derived.lockfile import dump, parse
from fairlead.serve.derived.shapes import Service
from tests.serve.derived.deriving import class_of, derived

HINTS = {"int": int, "str": str, "floats": list[float], "by_name": dict[str, bool], "maybe": bytes | None}
NAMES = ["a", "b", "c", "d", "e", "f"]
METHODS = ["find", "store", "drop"]
Fields = dict[str, str]
"""Names of parameters to names of ``HINTS``, in order."""


def service_with(methods: dict[str, Fields]) -> Service:
    """A service whose methods take those parameters, all with defaults, and answer with a record of the same."""
    space: dict[str, Any] = {}
    for name, fields in methods.items():
        record = dataclasses.make_dataclass(
            f"{name.title()}Record",
            [(key, HINTS[hint], dataclasses.field(default=None)) for key, hint in fields.items()],
        )
        parameters = ", ".join(f"{key}=None" for key in fields)
        made: dict[str, Any] = {}
        exec(f"def {name}(self, *, {parameters or '_=0'}): ...", made)
        function = made[name]
        function.__annotations__ = {key: HINTS[hint] for key, hint in fields.items()} | {"return": record}
        if not fields:
            exec(f"def {name}(self): ...", made)
            function = made[name]
            function.__annotations__ = {"return": record}
        space[name] = function
    return derived(type("Shop", (), space))


def numbers_of(lock: LockedService) -> dict[tuple[str, str], int]:
    return {
        (message, field): locked.number
        for message, all in lock.messages.items()
        for field, locked in all.fields.items()
    }


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_sequence_of_unrelated_edits_changes_a_number(data: st.DataObject) -> None:
    types = {name: data.draw(st.sampled_from(list(HINTS)), label=f"type of {name}") for name in NAMES}
    given_out: dict[tuple[str, str], int] = {}
    owners: dict[tuple[str, int], str] = {}
    methods: list[str] = []
    lock: LockedService | None = None
    for _ in range(data.draw(st.integers(1, 6), label="edits")):
        methods = data.draw(st.permutations(methods + data.draw(st.lists(st.sampled_from(METHODS), unique=True))))
        methods = list(dict.fromkeys([*methods, "find"]))
        edited = {
            method: {name: types[name] for name in data.draw(st.lists(st.sampled_from(NAMES), unique=True))}
            for method in methods
        }
        lock, breaking = advance(lock, service_with(edited))
        assert breaking == []
        numbers = numbers_of(lock)
        assert {key: numbers[key] for key in numbers.keys() & given_out.keys()} == {
            key: given_out[key] for key in numbers.keys() & given_out.keys()
        }
        given_out |= numbers
        for (message, field), number in numbers.items():
            assert owners.setdefault((message, number), field) == field, "no number means two things, ever"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_lock_survives_its_file_and_is_stable(data: st.DataObject) -> None:
    fields = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(list(HINTS)))
    service = service_with({"find": data.draw(fields), "store": data.draw(fields)})
    lock, _ = advance(None, service)
    again, breaking = advance(lock, service)
    assert (again, breaking) == (lock, [])
    text = dump({service.full_name: lock})
    assert parse(text, Path("x")) == {service.full_name: lock}
    assert dump(parse(text, Path("x"))) == text


class Kind(enum.Enum):
    SMALL = 1
    LARGE = 2


class SmallKind(enum.Enum):
    SMALL = 1


SmallKind.__name__ = "Kind"


@dataclasses.dataclass
class Item:
    name: str


def method(parameters: dict[str, Any], result: Any = None, defaults: dict[str, Any] | None = None) -> type:
    """A class whose method ``find`` has that signature."""
    made: dict[str, Any] = {}
    given = defaults or {}
    listed = ", ".join(f"{name}=given[{name!r}]" if name in given else name for name in parameters)
    exec(f"def find(self{', *, ' if listed else ''}{listed}): ...", {"given": given}, made)
    made["find"].__annotations__ = {**parameters, "return": result}
    return class_of(made["find"])


def made_of(first: type, then: type) -> tuple[LockedService, list[str]]:
    lock, breaking = advance(None, derived(first))
    assert breaking == []
    after, breaking = advance(lock, derived(then))
    return after, [str(each) for each in breaking]


def without_find() -> type:
    def count(self: Any) -> int: ...

    return class_of(count)


BREAKING: dict[str, tuple[type, type, str]] = {
    "another type": (
        method({"a": int}),
        method({"a": str}),
        "field 'a' of FindRequest: its type was int64 and is string. Keep it as it was and add a field",
    ),
    "one becomes many": (
        method({"a": int}),
        method({"a": list[int]}),
        "field 'a' of FindRequest: it was singular and is repeated. Keep it as it was",
    ),
    "another map": (
        method({"a": dict[str, int]}),
        method({"a": dict[str, str]}),
        "field 'a' of FindRequest: its type was map<string, int64> and is map<string, string>.",
    ),
    "no longer optional": (
        method({"a": int | None}),
        method({"a": int}),
        "field 'a' of FindRequest: it could be left out and has to be there now. Keep its default, or `| None`",
    ),
    "an answer that may be absent": (
        method({}, int),
        method({}, int | None),
        "field 'result' of FindResponse: it was always there in answers and may be absent now.",
    ),
    "a new part that has to be there": (
        method({"a": int}),
        method({"a": int, "item": Item}),
        "field 'item' of FindRequest: it is new and has to be there, and callers that do not know it would be refused. "
        "Give it a default",
    ),
    "a choice less": (
        method({"kind": Kind}),
        method({"kind": SmallKind}),
        "KIND_LARGE of Kind: it is gone, and callers still send it. Keep it, and refuse it in the method",
    ),
    "a method less": (
        method({}),
        without_find(),
        "method Find: it is gone, and callers still call it. Keep it, if only to raise an error",
    ),
    "a stream": (
        method({}, int),
        method({}, AsyncIterator[int]),
        "method Find: it was (FindRequest) returns (FindResponse) and is (FindRequest) returns (stream FindResponse). "
        "Add a method with another name",
    ),
}


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_edit_is_refused_with_the_reason_and_what_to_do(name: str) -> None:
    first, then, reason = BREAKING[name]
    after, breaking = made_of(first, then)
    assert len(breaking) == 1
    assert breaking[0].startswith(reason)
    _, again = advance(after, derived(then))
    assert again == [], "who accepts it has a lock that goes with the class"


FINE: dict[str, tuple[type, type]] = {
    "a parameter more": (method({"a": int}), method({"b": str, "a": int})),
    "a parameter less": (method({"a": int, "b": str}), method({"b": str})),
    "no longer required": (method({"a": int}), method({"a": int}, defaults={"a": 3})),
    "another default": (method({"a": int}, defaults={"a": 1}), method({"a": int}, defaults={"a": 2})),
    "a part more, with a default": (method({"a": int}), method({"a": int, "b": Item}, defaults={"b": Item("x")})),
    "a choice more": (method({"kind": SmallKind}), method({"kind": Kind})),
    "an answer's choice less": (method({}, Kind), method({}, SmallKind)),
}


@pytest.mark.parametrize("name", FINE)
def test_an_edit_that_callers_survive_is_not_refused(name: str) -> None:
    first, then = FINE[name]
    before, _ = advance(None, derived(first))
    after, breaking = made_of(first, then)
    assert breaking == []
    kept = numbers_of(before).keys() & numbers_of(after).keys()
    assert {key: numbers_of(before)[key] for key in kept} == {key: numbers_of(after)[key] for key in kept}


def test_numbers_of_what_is_gone_are_not_given_out_again() -> None:
    first, _ = advance(None, derived(method({"a": int, "b": int})))
    second, _ = advance(first, derived(method({"a": int})))
    third, _ = advance(second, derived(method({"a": int, "c": int})))
    assert numbers_of(third)["FindRequest", "c"] == 3
    back, _ = advance(third, derived(method({"a": int, "b": int, "c": int})))
    assert numbers_of(back)["FindRequest", "b"] == 2, "the same name with the same type is the same field"
    changed, breaking = advance(third, derived(method({"a": int, "b": str, "c": int})))
    assert breaking == [], "nobody sends it any more"
    assert numbers_of(changed)["FindRequest", "b"] == 4
    assert changed.messages["FindRequest"].reserved == [2]


def test_numbers_that_protobuf_keeps_are_skipped() -> None:
    lock, _ = advance(None, derived(method({"a": int})))
    fields = lock.messages["FindRequest"].fields
    fields["a"] = fields["a"]._replace(number=18999)
    grown, _ = advance(lock, derived(method({"a": int, "b": int})))
    assert numbers_of(grown)["FindRequest", "b"] == 20000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no lock file, or was damaged"),
        ("<<<<<<< HEAD", "no lock file, or was damaged, by a merge perhaps"),
        ("[]", "no lock file, or was damaged"),
        ('{"version": 2, "services": {}}', "is of version 2; this Fairlead knows 1"),
        ('{"version": 1, "services": {"a.v1.A": {}}}', "KeyError: 'class'"),
    ],
)
def test_a_damaged_lock_file_is_an_error(text: str, problem: str) -> None:
    with pytest.raises(LockFileError, match=problem):
        parse(text, Path("fairlead.lock.json"))


def test_a_number_that_a_merge_gave_out_twice_is_an_error() -> None:
    service = derived(method({"a": int, "b": int}))
    lock, _ = advance(None, service)
    text = dump({service.full_name: lock}).replace('"number": 2', '"number": 1')
    with pytest.raises(LockFileError, match="FindRequest has a number twice"):
        parse(text, Path("fairlead.lock.json"))
