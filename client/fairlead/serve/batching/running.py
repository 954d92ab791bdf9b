"""Running a batch: the user's function is called once, and each caller gets its part by position."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence, Set, Sized
from typing import Any

from fairlead.serve.batching.callers import Caller, StreamCaller, UnaryCaller
from fairlead.serve.batching.parameters import Parameters
from fairlead.wire.errors import FairleadError

_STOPS = (StopIteration, StopAsyncIteration)


async def answer(function: Callable[..., Any], parameters: Parameters, callers: Sequence[UnaryCaller]) -> None:
    """One result for each caller. Raises what the function raises, and for results that do not fit the callers."""
    args, kwargs = parameters.columns([caller.row for caller in callers])
    results = await function(*callers[0].target, *args, **kwargs)
    for caller, result in zip(callers, spread(results, len(callers)), strict=True):
        caller.succeed(result)


async def stream(function: Callable[..., Any], parameters: Parameters, callers: Sequence[StreamCaller]) -> None:
    """A stream for each caller: every list that the function yields has an item for each of them, to the end.

    ``StopIteration`` or ``StopAsyncIteration`` in the place of an item ends that caller's stream. The generator waits
    for the slowest caller when that is far behind. It is closed when nobody is left who would take an item and one of
    them went early; one whose callers were all told to stop runs to its own end.
    """
    args, kwargs = parameters.columns([caller.row for caller in callers])
    generator: AsyncGenerator[Any, None] = function(*callers[0].target, *args, **kwargs)
    async with contextlib.aclosing(generator):
        async for results in generator:
            for caller, result in zip(callers, spread(results, len(callers)), strict=True):
                if is_stop(result):
                    caller.end()
                else:
                    caller.put(result)
            for caller in callers:
                await caller.room()
            if all(caller.gone for caller in callers) and any(caller.left for caller in callers):
                break
    for caller in callers:
        caller.end()


def is_stop(result: Any) -> bool:
    """Whether it stands for the end of a caller's stream. By identity and type: results may define ``==`` at will."""
    return result is StopIteration or result is StopAsyncIteration or isinstance(result, _STOPS)


def spread(results: Any, callers: int) -> list[Any]:
    """The results by position. Raises TypeError for what has no positions, FairleadError for a wrong number."""
    if type(results) is list and len(results) == callers:
        return results
    if not isinstance(results, Sized) or isinstance(results, Mapping | Set | str | bytes):
        raise TypeError(
            "A batched function must return (or yield) a sequence with one result for each call in the batch; "
            f"it returned {type(results).__name__}."
        )
    if len(results) == callers:
        spread_out: list[Any] = list(results)  # type: ignore[call-overload]  # TypeError for what cannot be iterated
        if len(spread_out) == callers:
            return spread_out
    raise FairleadError(
        "Batched function doesn't preserve batch size. "
        f"The input list has length {callers} but the returned list has length {len(results)}."
    )


def by_model_and_shape(callers: Sequence[Caller], parameters: Parameters) -> list[list[Any]]:
    """The groups that can be handled together: those who ask for the same model, with arguments of the same shape."""
    groups: dict[Any, list[Any]] = {}
    for caller in callers:
        model_id = caller.context.multiplexed_model_id
        key = (model_id, parameters.shape(caller.row)) if parameters.is_open else model_id
        groups.setdefault(key, []).append(caller)
    return list(groups.values())
