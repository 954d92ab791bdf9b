"""Which waiting calls make the next batch, and when. No I/O, no clock: the time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fairlead.serve.batching.limits import Limits

T = TypeVar("T")


@dataclass(slots=True)
class Decision(Generic[T]):
    """What is to be done now."""

    batches: list[list[T]] = field(default_factory=list)
    """To be run, each until ``release`` is called for it."""
    failed: list[tuple[T, BaseException]] = field(default_factory=list)
    """Items that can be in no batch, and why."""
    wake_at: float | None = None
    """When to decide again, if nothing happens before; None: only when something happens."""


class BatchQueue(Generic[T]):
    """Items in the order that they came, told apart by identity.

    A batch forms at the head of the queue while it may run: it is due when it is full, or when its first item has
    waited long enough. With a size function it is also full when the next item does not fit; that item stays where it
    is and so is the first of the next batch: no item is overtaken.
    """

    def __init__(self, limits: Limits, max_concurrent: int, measure: Callable[[list[T]], Any] | None = None) -> None:
        """``measure`` gives the size of a batch; None: the number of its items."""
        self.limits = limits
        """For the batches that begin to form from now on."""
        self._measure = measure
        self._rules = limits
        self._waiting: OrderedDict[T, float] = OrderedDict()  # a dict is slow to take from its head
        self._forming: dict[T, float] = {}
        self._full = False
        self._permits = max_concurrent

    def __len__(self) -> int:
        return len(self._waiting) + len(self._forming)

    def __repr__(self) -> str:
        return f"<BatchQueue {len(self._waiting)} waiting, {len(self._forming)} forming, {self._permits} permits>"

    def put(self, item: T, now: float) -> bool:
        """An item joins at the end. False: there is nothing to decide until something else happens."""
        self._waiting[item] = now
        if not self._permits:
            return False
        if self._measure is not None or not self._forming:
            return True
        return len(self._forming) + len(self._waiting) >= self._rules.max_batch_size

    def discard(self, item: T) -> bool:
        """An item leaves. False if it is not here: its batch was decided, or it has failed."""
        if self._waiting.pop(item, None) is not None:
            return True
        if self._forming.pop(item, None) is not None:
            self._full = False
            return True
        return False

    def release(self) -> None:
        """A batch has ended; another one may run."""
        self._permits += 1

    def decide(self, now: float) -> Decision[T]:
        """What is to be done at this time."""
        decision: Decision[T] = Decision()
        while self._permits and (self._forming or self._waiting):
            if not self._forming:
                self._rules = self.limits
                self._full = False
            self._admit(decision.failed)
            if not self._forming:
                break
            due = next(iter(self._forming.values())) + self._rules.batch_wait_timeout_s
            if not self._full and now < due:
                decision.wake_at = due
                break
            decision.batches.append(list(self._forming))
            self._forming.clear()
            self._permits -= 1
        return decision

    def _admit(self, failed: list[tuple[T, BaseException]]) -> None:
        """Moves items from the head of the queue into the batch that forms, as long as they fit."""
        waiting, forming = self._waiting, self._forming
        if self._measure is None:
            limit = self._rules.max_batch_size
            while waiting and len(forming) < limit:
                item, arrived = waiting.popitem(last=False)
                forming[item] = arrived
            self._full = len(forming) >= limit
            return
        while waiting and not self._full:
            item = next(iter(waiting))
            error = self._weigh([*forming, item])
            if error is not None and forming:
                error = self._weigh([item])
                if error is None:  # it fits another batch
                    self._full = True
                    return
            arrived = waiting.pop(item)
            if error is None:
                forming[item] = arrived
            else:
                self._full = False
                failed.append((item, error))

    def _weigh(self, items: list[T]) -> BaseException | None:
        """Why these make no batch; None: they do."""
        limit = self._rules.max_batch_size
        assert self._measure is not None
        try:
            size = self._measure(items)
            if _is_negative(size):
                return ValueError(f"batch_size_fn reports a size of {size}; a size is not negative")
            if not size <= limit:
                return RuntimeError(f"batch_size_fn reports a size of {size}, larger than max_batch_size ({limit})")
            self._full = bool(size >= limit)
        except BaseException as error:  # the user's function: it fails its items and nothing else
            return error
        return None


def _is_negative(size: Any) -> bool:
    """Whether a size is less than nothing. Raises TypeError for what is no number, an array of several among it."""
    try:
        return bool(size < 0)
    except Exception as error:
        raise TypeError(f"batch_size_fn must return a number; it returned {type(size).__name__}") from error
