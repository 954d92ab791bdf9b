"""Picks as a user's request router says, for the calls of one deployment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fairlead.v1 import control_pb2
from fairlead_gateway.routing.call import Call
from fairlead_gateway.routing.choice import Choice, Ranks, backoff_s, pick_by_rank
from fairlead_gateway.routing.chooser import Chooser
from fairlead_gateway.routing.pick import pick
from fairlead_gateway.routing.replica import Replica


class Pool(Protocol):
    """The deployment."""

    application: str
    name: str
    ready: list[Replica]
    slots: int

    def wake(self) -> None:
        """Gives free slots to those that wait longest."""

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Does something after so many seconds."""


class RouterPicks:
    """Asks the router, and goes by what it says. Belongs to the worker's loop."""

    def __init__(self, routes: control_pb2.DeploymentRoutes, pool: Pool, random: Callable[[], float]) -> None:
        self.settings = control_pb2.RequestRouterSettings()
        """What it was made for."""
        self.settings.CopyFrom(routes.request_router)
        self._pool = pool
        self._random = random
        self._closed = False
        self._chooser = Chooser(self.settings, routes.sys_path, pool.application, pool.name)

    def __repr__(self) -> str:
        return f"<RouterPicks {self._chooser!r}>"

    def close(self) -> None:
        """Ends it. Calls that it was asked about go by power of two choices."""
        self._closed = True
        self._chooser.close()

    def pick(self, call: Call, *, may_ask: bool) -> Replica | None:
        """The replica for a call. None: the router has not answered yet, what it chose is full, or all are.

        Without ``may_ask`` a call that the router was not asked about waits: enough others have its attention.
        """
        ready, slots = self._pool.ready, self._pool.slots
        if call.choice is None:
            if not may_ask or not any(replica.load < slots for replica in ready):
                return None
            self._ask(call, 1)
        choice = call.choice
        if choice is not None and choice.pending:
            return None
        groups: Sequence[Sequence[Replica]] = [] if choice is None else choice.groups(ready)
        if choice is None or not groups:  # no answer, or one of no use
            call.choice = None
            return pick(ready, slots, self._random, call.avoid)
        replica = pick_by_rank(groups, slots, self._random, call.avoid)
        if replica is not None:
            call.choice = None
            if choice.question is not None:
                self._chooser.routed(choice.question, replica)
        return replica

    def _ask(self, call: Call, asked: int) -> None:
        choice = call.choice = Choice(asked)
        asking = True

        def answered(ranks: Ranks | None) -> None:
            choice.answer(ranks)
            if call.choice is not choice or call.done:
                return
            if ranks is not None:
                self._ask_again_later(call, choice)
            if not asking:
                self._pool.wake()

        choice.question = self._chooser.ask(call.header, self._pool.ready, self._pool.slots, answered)
        asking = False

    def _ask_again_later(self, call: Call, choice: Choice) -> None:
        """What was chosen may be full for long, while others are free."""
        settings = self.settings

        def again() -> None:
            if call.choice is choice and not call.done and not self._closed:
                self._ask(call, choice.asked + 1)

        delay = backoff_s(choice.asked, settings.initial_backoff_s, settings.backoff_multiplier, settings.max_backoff_s)
        self._pool.later(delay, again)
