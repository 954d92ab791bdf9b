"""Which calls make a batch, and when: decisions alone, with a clock that stands still."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.serve.batching.limits import Limits
from fairlead.serve.batching.parameters import Parameters
from fairlead.serve.batching.queue import BatchQueue

WAIT_S = 10.0


class Item:
    """Told apart by identity: its size may be anything, and it is equal to nothing."""

    def __init__(self, size: Any) -> None:
        self.size = size

    def __repr__(self) -> str:
        return f"Item({self.size})"


def total(items: list[Item]) -> Any:
    return sum(item.size for item in items)


def queue_of(size: int, concurrent: int = 1, measure: Any = None) -> BatchQueue[Item]:
    return BatchQueue(Limits(max_batch_size=size, batch_wait_timeout_s=WAIT_S), concurrent, measure)


def items(*sizes: Any) -> list[Item]:
    return [Item(size) for size in sizes]


def put(queue: BatchQueue[Item], many: list[Item], now: float = 0.0) -> None:
    for item in many:
        queue.put(item, now)


def test_a_full_batch_is_due_at_once():
    queue = queue_of(2)
    first, second, third = many = items(1, 1, 1)
    queue.put(first, 0)
    assert queue.decide(0).batches == []
    put(queue, many[1:], 1)
    assert queue.decide(1).batches == [[first, second]]
    assert queue.decide(1).batches == []
    queue.release()
    decision = queue.decide(2)
    assert (decision.batches, decision.wake_at) == ([], 1 + WAIT_S)
    assert queue.decide(1 + WAIT_S).batches == [[third]]


def test_the_wait_starts_with_the_first_item():
    queue = queue_of(3)
    put(queue, many := items(1, 1))
    assert queue.decide(0).wake_at == WAIT_S
    queue.put(late := Item(1), 5)
    assert queue.decide(5).batches == [[*many, late]]


def test_a_wait_that_is_over_when_a_batch_ends_is_over():
    queue = queue_of(2)
    put(queue, items(1, 1, 1))
    assert len(queue.decide(0).batches) == 1
    assert queue.decide(WAIT_S * 2).wake_at is None
    queue.release()
    assert len(queue.decide(WAIT_S * 2).batches) == 1


def test_there_is_something_to_decide_for_the_first_item_and_for_the_one_that_fills_a_batch():
    queue = queue_of(3)
    said = []
    for item in items(*[1] * 5):
        said.append(queue.put(item, 0))
        if said[-1]:
            queue.decide(0)
    assert said == [True, False, True, False, False]  # the batch runs: its end decides for the last two
    queue.release()
    assert queue.decide(0).wake_at == WAIT_S


def test_as_many_batches_as_may_run():
    queue = queue_of(1, concurrent=2)
    a, b, c = many = items(1, 1, 1)
    put(queue, many)
    assert queue.decide(0).batches == [[a], [b]]
    queue.release()
    assert queue.decide(0).batches == [[c]]


def test_an_item_that_leaves_takes_its_wait_along():
    queue = queue_of(3)
    first, second = items(1, 1)
    queue.put(first, 0)
    queue.decide(0)
    queue.put(second, 4)
    queue.decide(4)
    assert queue.discard(first)
    assert not queue.discard(first)
    assert queue.decide(5).wake_at == 4 + WAIT_S
    assert queue.discard(second)
    assert queue.decide(6).wake_at is None
    assert len(queue) == 0


def test_limits_count_for_the_next_batch():
    queue = queue_of(3)
    put(queue, items(1, 1))
    queue.decide(0)
    queue.limits = Limits(max_batch_size=1, batch_wait_timeout_s=0)
    assert queue.decide(1).batches == []
    put(queue, items(1, 1), 1)
    assert [len(batch) for batch in queue.decide(1).batches] == [3]
    queue.release()
    assert [len(batch) for batch in queue.decide(1).batches] == [1]


def test_an_item_that_does_not_fit_keeps_its_place():
    queue = queue_of(10, measure=total)
    small, large, other = many = items(4, 8, 2)
    put(queue, many)
    assert queue.decide(0).batches == [[small]]
    queue.release()
    assert queue.decide(0).batches == [[large, other]]


def test_an_item_above_the_limit_fails_and_holds_nobody_up():
    queue = queue_of(10, measure=total)
    first, monster, second = many = items(4, 11, 6)
    put(queue, many)
    decision = queue.decide(0)
    assert decision.batches == [[first, second]]
    ((failed, error),) = decision.failed
    assert failed is monster
    assert isinstance(error, RuntimeError)
    assert "max_batch_size" in str(error)


@pytest.mark.parametrize("poison", [None, "x", float("nan")])
def test_a_failing_size_function_fails_its_items(poison):
    queue = queue_of(10, measure=total)
    first, bad, second = many = items(4, poison, 6)
    put(queue, many)
    decision = queue.decide(0)
    assert decision.batches == [[first, second]]
    assert [item for item, _ in decision.failed] == [bad]


def test_a_size_function_that_always_fails():
    def measure(items):
        raise SystemExit(1)

    queue = queue_of(10, measure=measure)
    put(queue, items(1, 1))
    decision = queue.decide(0)
    assert (decision.batches, len(decision.failed), decision.wake_at, len(queue)) == ([], 2, None, 0)


@pytest.mark.parametrize(
    ("lie", "kind", "says"),
    [
        ("three", TypeError, "must return a number; it returned str"),
        (None, TypeError, "must return a number; it returned NoneType"),
        ([1, 2], TypeError, "must return a number; it returned list"),
        (-1, ValueError, "not negative"),
        (float("nan"), RuntimeError, "max_batch_size"),
        (float("inf"), RuntimeError, "max_batch_size"),
    ],
)
def test_a_size_function_that_lies_is_told_to_its_caller_alone(lie, kind, says):
    queue = queue_of(10, measure=lambda items: lie if any(item.size == 7 for item in items) else 5 * len(items))
    first, bad, second = many = items(1, 7, 1)
    put(queue, many)
    decision = queue.decide(0)
    assert decision.batches == [[first, second]]
    [(failed, error)] = decision.failed
    assert failed is bad
    assert type(error) is kind
    assert says in str(error)


def test_a_size_that_is_not_a_number_alone_fails_only_its_own():
    def measure(items):
        if len(items) > 1:
            raise ValueError("only one at a time")
        return 1

    queue = queue_of(10, measure=measure)
    a, b = many = items(1, 1)
    put(queue, many)
    assert queue.decide(0).batches == [[a]]
    queue.release()
    assert queue.decide(WAIT_S).batches == [[b]]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.one_of(st.integers(0, 14), st.none())),
        st.tuples(st.just("leave"), st.integers(0, 30)),
        st.tuples(st.just("release"), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, WAIT_S])),
    ),
    max_size=60,
)


@given(steps=steps, weighed=st.booleans(), concurrent=st.integers(1, 3), always=st.booleans())
def test_nobody_is_lost_overtaken_or_overfull(steps, weighed, concurrent, always):
    queue = queue_of(10, concurrent, total if weighed else None)
    now, running, wake_at = 0.0, 0, None
    there: list[Item] = []
    taken: list[Item] = []
    arrived: list[Item] = []
    for what, value in [*steps, *[("wait", WAIT_S), ("release", 0)] * 60]:
        told = True
        if what == "put":
            item = Item(value)
            arrived.append(item)
            there.append(item)
            told = queue.put(item, now)
        elif what == "leave" and value < len(there):
            assert queue.discard(there.pop(value))
        elif what == "release" and running:
            running -= 1
            queue.release()
        elif what == "wait":
            now += value
        if not (told or always):
            continue
        decision = queue.decide(now)
        if not told:
            assert (decision.batches, decision.failed, decision.wake_at) == ([], [], wake_at)
        wake_at = decision.wake_at
        for item, _ in decision.failed:
            assert weighed
            assert item.size is None or item.size > 10
            there.remove(item)
        for batch in decision.batches:
            running += 1
            assert batch
            assert (total(batch) if weighed else len(batch)) <= 10
            assert batch == there[: len(batch)]
            del there[: len(batch)]
            taken += batch
        assert running <= concurrent
        assert decision.wake_at is None or decision.wake_at > now
        assert len(queue) == len(there)
        assert running == concurrent or not there or decision.wake_at is not None
    assert there == []
    assert taken == [item for item in arrived if item in taken]


class TestArguments:
    def test_by_position_and_by_name(self):
        async def function(a, b=5, *, c=6): ...

        parameters = Parameters(function, is_method=False)
        rows = [parameters.row((1, 2), {}), parameters.row((3,), {"b": 4}), parameters.row((), {"b": 8, "a": 7})]
        assert parameters.columns(rows) == ([[1, 3, 7], [2, 4, 8]], {})

    def test_defaults(self):
        async def function(a, b=5, *, c=6): ...

        parameters = Parameters(function, is_method=False)
        assert parameters.columns([parameters.row((1,), {}), parameters.row((2,), {})]) == ([[1, 2]], {})
        rows = [parameters.row((1,), {}), parameters.row((2,), {"c": 3})]
        assert parameters.columns(rows) == ([[1, 2]], {"c": [6, 3]})

    def test_open_functions(self):
        async def function(a, *args, **kwargs): ...

        parameters = Parameters(function, is_method=False)
        one, other = parameters.row((1, 2, 3), {"x": 4}), parameters.row((5, 6, 7), {"x": 8})
        assert parameters.shape(one) == parameters.shape(other) != parameters.shape(parameters.row((1,), {}))
        assert parameters.columns([one, other]) == ([[1, 5], [2, 6], [3, 7]], {"x": [4, 8]})

    def test_methods_and_wrong_arguments(self):
        async def method(self, a, /, b): ...

        parameters = Parameters(method, is_method=True)
        assert parameters.columns([parameters.row((1,), {"b": 2})]) == ([[1], [2]], {})
        for args, kwargs in [((), {}), ((1,), {}), ((1, 2, 3), {}), ((1, 2), {"c": 3}), ((), {"a": 1, "b": 2})]:
            with pytest.raises(TypeError):
                parameters.row(args, kwargs)

    def test_what_a_size_function_sees(self):
        async def function(a=1): ...
        async def nothing(): ...
        async def open_function(*args): ...

        for target, args, seen in [
            (function, (), 1),
            (function, (2,), 2),
            (nothing, (), None),
            (open_function, (3,), 3),
        ]:
            parameters = Parameters(target, is_method=False)
            assert parameters.first(parameters.row(args, {})) == seen
