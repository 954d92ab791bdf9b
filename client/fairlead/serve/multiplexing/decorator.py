"""``@serve.multiplexed`` itself: checks what is decorated, and finds the cache of each call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from fairlead.serve.context import get_multiplexed_model_id
from fairlead.serve.multiplexing.cache import ModelCache
from fairlead.serve.multiplexing.registry import Registry, own_registry, registry
from fairlead.serve.validation import check_optional_number

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

MAX_MODEL_ID = 1024
"""Characters of a model id; gateways take no longer one either."""

_MARK = "_fairlead_multiplexed"


class CallersModelError(ValueError):
    """The id of a model that the caller asked for cannot be one: the caller's mistake, not the method's."""


@overload
def multiplexed(func: F, *, max_num_models_per_replica: int = 3, load_timeout_s: float | None = None) -> F: ...
@overload
def multiplexed(
    func: None = None, *, max_num_models_per_replica: int = 3, load_timeout_s: float | None = None
) -> Callable[[F], F]: ...
def multiplexed(func: Any = None, max_num_models_per_replica: int = 3, load_timeout_s: float | None = None) -> Any:
    """Makes a function or method that loads a model by its id keep the models; bare, or with the number of them.

    What is decorated is ``async def`` with one argument, the model id, beside ``self``. Each replica keeps at most
    ``max_num_models_per_replica`` models (-1: any number) of each decorated method, the most recently asked for. A
    model that a running request got is not evicted; if all are in use, a request for another one waits. Loads of
    different models run at once, and a model is loaded once however many requests ask for it. A load that takes longer
    than ``load_timeout_s`` seconds, unloading for it included, fails with TimeoutError and is cancelled. One that goes
    on as long again loses its place; until it ends, its model is refused. None: callers' deadlines are the limit.

    An evicted model's ``__del__``, or its ``close`` if it has none, is awaited before the next one loads. Raises
    TypeError and ValueError for what cannot be decorated and numbers that cannot be; calls raise them for model ids.
    """
    capacity = _capacity(max_num_models_per_replica)
    check_optional_number("load_timeout_s", load_timeout_s, above=0)
    if func is None:
        return functools.partial(_decorate, capacity=capacity, timeout_s=load_timeout_s)
    return _decorate(func, capacity=capacity, timeout_s=load_timeout_s)


def announce(target: Any) -> None:
    """Makes the caches of an object's decorated methods, so that gateways hear of them before the first call."""
    if isinstance(target, type) or inspect.isroutine(target):
        return
    for kind in type(target).__mro__:
        for attribute in vars(kind).values():
            cache_of = getattr(attribute, _MARK, None) if inspect.isfunction(attribute) else None
            if cache_of is not None:
                cache_of(target)


def _capacity(number: Any) -> int | None:
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"max_num_models_per_replica must be an integer, not {number!r}")
    if number != -1 and number <= 0:
        raise ValueError(f"max_num_models_per_replica must be positive, or -1 for any number, not {number}")
    return None if number == -1 else number


def _decorate(func: Any, *, capacity: int | None, timeout_s: float | None) -> Any:
    if isinstance(func, type):
        raise TypeError("@serve.multiplexed cannot be used to decorate classes: decorate the method that loads a model")
    if not callable(func):
        raise TypeError(f"@serve.multiplexed decorates functions and methods, not {type(func).__name__}")
    if not inspect.iscoroutinefunction(func):
        raise TypeError("@serve.multiplexed can only be used to decorate async functions or methods")
    names = list(_parameters(func))
    is_method = len(names) == 2
    key = f"_fairlead_models_{func.__qualname__}"
    shared: dict[Registry, ModelCache] = {}

    def cache_of(owner: Any) -> ModelCache:
        """The cache of a method's object, or of the function."""
        if not is_method:
            own = _registry_here()
            if own not in shared:
                shared[own] = _new_cache(func, capacity, func, timeout_s)
            return shared[own]
        try:
            attributes = vars(owner)
        except TypeError:
            raise TypeError(f"{type(owner).__qualname__} has __slots__ and no room for a cache of models") from None
        cache: ModelCache | None = attributes.get(key)
        if cache is None:
            cache = attributes[key] = _new_cache(functools.partial(func, owner), capacity, func, timeout_s)
        return cache

    @functools.wraps(func)
    async def load(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != len(names):
            args = _bind(func, names, args, kwargs)
        return await cache_of(args[0]).get(_check_id(args[-1]))

    setattr(load, _MARK, cache_of)
    return load


def _new_cache(
    load: Callable[[str], Awaitable[Any]], capacity: int | None, func: Any, timeout_s: float | None
) -> ModelCache:
    return ModelCache(load, capacity, _registry_here(), func.__qualname__, timeout_s)


def _registry_here() -> Registry:
    """This replica's: a function of the module, so that code sent to a replica by value finds that one's."""
    return own_registry.get() or registry


def _parameters(func: Any) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(func).parameters)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not 1 <= len(parameters) <= 2 or any(each.kind not in positional for each in parameters.values()):
        raise TypeError(
            "@serve.multiplexed can only be used to decorate functions with exactly one argument, the model id, "
            f"and methods with that beside self; {func.__qualname__} has {list(parameters)}"
        )
    return parameters


def _bind(func: Any, names: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments in order, however they were given. Raises TypeError for those that do not fit."""
    for name in names[len(args) :]:
        if name not in kwargs:
            raise TypeError(f"{func.__qualname__}() needs {name!r}: the model id")
        args = (*args, kwargs.pop(name))
    if kwargs or len(args) != len(names):
        raise TypeError(f"{func.__qualname__}() takes the model id and nothing else")
    return args


def _check_id(model_id: Any) -> str:
    if not isinstance(model_id, str):
        raise TypeError(f"a model id is a str, not {type(model_id).__name__}")
    if model_id and len(model_id) <= MAX_MODEL_ID:
        return model_id
    kind = CallersModelError if model_id == get_multiplexed_model_id() else ValueError
    if model_id:
        raise kind(f"a model id of {len(model_id)} characters; the limit is {MAX_MODEL_ID}")
    raise kind("a model id must not be empty: did the caller set multiplexed_model_id?")
