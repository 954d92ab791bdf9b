"""Models of unequal popularity on replicas that keep a few each: a simulation in time that it counts itself.

Replicas decide with the code of real ones, ``fairlead.serve.multiplexing.models``; rules pick as gateways do.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairlead.serve.multiplexing.models import Decision, Entry, Models, State
from fairlead.v1 import session_pb2
from fairlead_gateway.routing.pick import pick
from fairlead_gateway.routing.placement import Placement
from fairlead_gateway.routing.replica import Replica


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is simulated."""

    models: int = 64
    replicas: int = 4
    places: int = 4
    slots: int = 16
    zipf: float = 1.0
    """The exponent of popularity: the model of rank n is asked for in proportion to 1 / n ** zipf."""
    calls_per_s: float = 100.0
    load_s: float = 0.05
    call_s: float = 0.005
    calls: int = 20_000
    counted_from: int = 4_000
    """Calls before that warm up."""
    shifts: int = 0
    """So many calls apart popularity moves to other models; 0: never."""

    def weights(self) -> list[float]:
        """The popularity of each model, most popular first; they sum up to 1."""
        raw = [1 / (rank + 1) ** self.zipf for rank in range(self.models)]
        return [each / sum(raw) for each in raw]

    @property
    def best_static(self) -> float:
        """The hit rate of the best placement that never changes: every place holds another one of the popular models.

        A copy of a model could only ever take calls that the model gets anyway.
        """
        return sum(self.weights()[: self.replicas * self.places])


Rule = Callable[[Sequence[Replica], int, str], Replica | None]


def plain(load: Load, dice: random.Random) -> Rule:
    """Power of two choices, whatever the model."""
    return lambda replicas, slots, model: pick(replicas, slots, dice.random)


def rays(load: Load, dice: random.Random) -> Rule:
    """Ray Serve's: power of two choices among those that have it, else among those with the fewest models."""

    def rule(replicas: Sequence[Replica], slots: int, model: str) -> Replica | None:
        candidates = [each for each in replicas if each.holds(model)]
        if not candidates:
            fewest = min(each.model_count for each in replicas)
            candidates = [each for each in replicas if each.model_count == fewest]
        return pick(candidates, slots, dice.random) or pick(replicas, slots, dice.random)

    return rule


def without_homes(load: Load, dice: random.Random) -> Rule:
    """What is done where it is not known how many models a replica keeps."""
    placement = Placement()
    return lambda replicas, slots, model: placement.pick(replicas, slots, model)[0]


def ours(load: Load, dice: random.Random) -> Rule:
    """With homes for popular models."""
    placement = Placement()

    def rule(replicas: Sequence[Replica], slots: int, model: str) -> Replica | None:
        placement.note(model, replicas)
        picked, _ = placement.pick(replicas, slots, model)
        if picked is not None:
            placement.sent(picked)
        return picked

    return rule


@dataclass(kw_only=True)
class Result:
    """What became of the calls that count."""

    hits: int = 0
    loads: int = 0
    calls: int = 0
    taken: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    @property
    def hit_rate(self) -> float:
        """The share of calls that caused no load: their model was there, or was being loaded."""
        return 1 - self.loads / self.calls

    @property
    def found_rate(self) -> float:
        """The share of calls that found their model loaded, and waited for nothing."""
        return self.hits / self.calls

    @property
    def imbalance(self) -> float:
        """The busiest replica's calls beside the mean."""
        return max(self.taken.values()) * len(self.taken) / self.calls

    def percentile(self, percent: float) -> float:
        """Of the latencies, in seconds."""
        return sorted(self.latencies)[int(len(self.latencies) * percent / 100)]


@dataclass(eq=False)
class _Call:
    model: str
    arrived: float
    counts: bool
    entry: Entry | None = None
    hit: bool = False
    caused_load: bool = False


class _Host:
    """A replica: its places, and calls that wait for one."""

    def __init__(self, name: str, world: World) -> None:
        self.replica = Replica(name, "")
        self.models = Models(world.load.places)
        self.world = world
        self.waiting: deque[_Call] = deque()
        self.joined: dict[Entry, list[_Call]] = {}
        self.report()

    def report(self) -> None:
        ids = [*self.models.ids(State.LOADED), *self.models.ids(State.LOADING)]
        said = session_pb2.LoadedModels(
            model_ids=ids, capacity=self.world.load.places, load_time_us=int(self.world.load.load_s * 1e6)
        )
        self.replica.report(session_pb2.Load(ongoing=0, sequence=self.replica.sequence + 1, models=said))
        self.replica.elsewhere = 0
        self.replica.load = self.replica.in_flight

    def take(self, call: _Call) -> None:
        self.replica.take()
        self.replica.send_model(call.model)
        self.ask(call, first=True)

    def ask(self, call: _Call, *, first: bool) -> bool:
        decision, entry, _ = self.models.ask(call.model, may_take=not first or not self.waiting)
        if decision in (Decision.WAIT, Decision.LEAVING):
            if first:
                self.waiting.append(call)
            return False
        assert entry is not None
        call.entry = entry
        entry.users += 1
        if decision is Decision.HIT:
            call.hit = first
            self.world.after(self.world.load.call_s, lambda: self.end(call))
        else:
            self.joined.setdefault(entry, []).append(call)
            if decision is Decision.LOAD:
                call.caused_load = True
                self.report()
                self.world.after(self.world.load.load_s, lambda: self.loaded(entry))
        return True

    def loaded(self, entry: Entry) -> None:
        self.models.loaded(entry, entry.model_id)
        for call in self.joined.pop(entry):
            self.world.after(self.world.load.call_s, lambda call=call: self.end(call))  # type: ignore[misc]
        self.report()
        self.retry()

    def end(self, call: _Call) -> None:
        assert call.entry is not None
        call.entry.users -= 1
        self.replica.release()
        self.replica.end_model(call.model)
        self.retry()
        self.world.ended(call, self.replica)

    def retry(self) -> None:
        while self.waiting and self.ask(self.waiting[0], first=False):
            self.waiting.popleft()


class World:
    """The simulation."""

    def __init__(self, load: Load, rule: Callable[[Load, random.Random], Rule], seed: int) -> None:
        self.load = load
        self.dice = random.Random(seed)
        self.rule = rule(load, random.Random(seed + 1))
        self.now = 0.0
        self.result = Result()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.hosts = {name: _Host(name, self) for name in (f"r{number}" for number in range(load.replicas))}
        self.replicas = [host.replica for host in self.hosts.values()]
        self.queue: deque[_Call] = deque()

    def after(self, delay: float, action: Callable[[], Any]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._order), action))

    def run(self) -> Result:
        self._arrive(0)
        while self._events:
            self.now, _, action = heapq.heappop(self._events)
            action()
        return self.result

    def _arrive(self, number: int) -> None:
        load = self.load
        (rank,) = self.dice.choices(range(load.models), self._weights)
        moved = number // load.shifts if load.shifts else 0
        self.queue.append(_Call(f"m{(rank + 7 * moved) % load.models}", self.now, number >= load.counted_from))
        if number + 1 < load.calls:
            self.after(self.dice.expovariate(load.calls_per_s), lambda: self._arrive(number + 1))
        self._dispatch()

    @property
    def _weights(self) -> list[float]:
        if not hasattr(self, "_known"):
            self._known = self.load.weights()
        return self._known

    def _dispatch(self) -> None:
        while self.queue:
            picked = self.rule(self.replicas, self.load.slots, self.queue[0].model)
            if picked is None:
                return
            self.hosts[picked.replica_id].take(self.queue.popleft())

    def ended(self, call: _Call, replica: Replica) -> None:
        if call.counts:
            result = self.result
            result.calls += 1
            result.hits += call.hit
            result.loads += call.caused_load
            result.taken[replica.replica_id] += 1
            result.latencies.append(self.now - call.arrived)
        self._dispatch()


def simulate(rule: Callable[[Load, random.Random], Rule], load: Load | None = None, seed: int = 1) -> Result:
    """Runs one rule."""
    return World(load or Load(), rule, seed).run()
