"""Digests of pickles: equal for equal meaning in every process, and only then."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.serve import fingerprint
from fairlead.serve.fingerprint import pickled_digest
from tests.serve.by_value_program import CHANGES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs() -> list[dict[str, dict[str, str]]]:
    """The code versions that a program and changed ones get in processes whose sets are in different orders."""
    command = [sys.executable, "-m", "tests.serve.by_value_program"]
    processes = [
        subprocess.Popen(each, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE)
        for seed, each in (("1", command), ("2", [*command, "unchanged"]), ("3", [*command, "unchanged"]))
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    return [json.loads(output) for output in outputs]


def test_an_unchanged_program_has_the_same_versions_in_every_run(runs: list[dict[str, dict[str, str]]]) -> None:
    unchanged = [versions for run in runs for name, versions in run.items() if name not in CHANGES]
    assert len(unchanged) == 18
    assert all(versions == unchanged[0] for versions in unchanged)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_another_version_of_what_it_is_code_of(runs: list[dict[str, dict[str, str]]], change: str) -> None:
    before, after = runs[0][""], runs[0][change]
    assert {name for name in before if before[name] != after.get(name)} == CHANGES[change][2]


_ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4) | st.binary(max_size=4)
)
_HASHABLE = st.recursive(_ATOMS, lambda part: st.tuples(part, part) | st.frozensets(part, max_size=4), max_leaves=6)
_VALUES = st.recursive(
    _HASHABLE,
    lambda part: (
        st.lists(part, max_size=4) | st.dictionaries(_HASHABLE, part, max_size=3) | st.sets(_HASHABLE, max_size=4)
    ),
    max_leaves=10,
)


def exactly(value: Any) -> Any:
    """A value with its types, which ``==`` does not look at: 1 is True is 1.0."""
    match value:
        case set() | frozenset():
            return type(value), frozenset(map(exactly, value))
        case dict():
            return dict, tuple((exactly(key), exactly(part)) for key, part in value.items())
        case list() | tuple():
            return type(value), tuple(map(exactly, value))
        case _:
            return type(value), repr(value)


@given(_VALUES, _VALUES)
def test_equal_digests_are_equal_values(one: Any, other: Any) -> None:
    same = pickled_digest(cloudpickle.dumps(one)) == pickled_digest(cloudpickle.dumps(other))
    assert same == (exactly(one) == exactly(other))


@given(_VALUES)
def test_copies_have_the_same_digest(value: Any) -> None:
    copied = pickle.loads(pickle.dumps(value))
    assert pickled_digest(cloudpickle.dumps([value, copied])) == pickled_digest(cloudpickle.dumps([copied, value]))


def test_which_of_two_pickles_it_is_counts() -> None:
    assert pickled_digest(b"", b"") == ""
    assert pickled_digest(b"", pickle.dumps(1)) != pickled_digest(pickle.dumps(1), b"")


def test_shared_and_equal_are_two_things() -> None:
    shared: list[int] = [1]
    assert pickled_digest(pickle.dumps([shared, shared])) != pickled_digest(pickle.dumps([[1], [1]]))


class _WithSetter:
    def __init__(self, state: int) -> None:
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return _WithSetter, (0,), self.state, None, None, setattr_state


def setattr_state(made: _WithSetter, state: int) -> None:
    """What pickle calls, dropping what it returns."""
    made.state = state


class _ListOf(list[int]):
    pass


class _DictOf(dict[str, int]):
    pass


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_WithSetter(1), _WithSetter(2)),
        (_ListOf([1]), _ListOf([2])),
        (_DictOf(a=1), _DictOf(a=2)),
        (range(3), range(4)),
        (len, repr),
        (bytearray(b"a"), bytearray(b"b")),
        (bytearray(b"a"), b"a"),
        (1 + 2j, 1 + 3j),
        (ValueError("a"), ValueError("b")),
    ],
)
def test_kinds_of_state(one: Any, other: Any) -> None:
    assert pickled_digest(cloudpickle.dumps(one)) == pickled_digest(cloudpickle.dumps(one))
    assert pickled_digest(cloudpickle.dumps(one)) != pickled_digest(cloudpickle.dumps(other))


def test_nothing_is_run() -> None:
    pickled_digest(b"cos\n_exit\n(I1\ntR.")  # os._exit(1)


def test_what_is_not_understood_is_its_bytes() -> None:
    assert len({pickled_digest(data) for data in (b"no pickle", b"none either", b"no pickle")}) == 2


def test_too_much_is_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "_LIMIT", 100)
    small, large = pickle.dumps([1] * 50), pickle.dumps([1] * 500)
    assert pickled_digest(small) == pickled_digest(protocol_2(small))
    assert pickled_digest(large) != pickled_digest(protocol_2(large))


def protocol_2(pickled: bytes) -> bytes:
    """The same value in other bytes."""
    return pickle.dumps(pickle.loads(pickled), protocol=2)


def test_the_file_of_a_function_is_not_part_of_it() -> None:
    functions = []
    for file in ("/tmp/ipykernel_1/1.py", "/tmp/ipykernel_2/1.py"):
        scope: dict[str, Any] = {"__name__": "__main__"}
        exec(compile("def f():\n    return 1", file, "exec", dont_inherit=True), scope)
        functions.append(pickled_digest(cloudpickle.dumps(scope["f"])))
    assert functions[0] == functions[1]
