"""Between the controller's mind and its store: what is written when, and what is read at the start."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from fairlead.v1 import control_pb2, store_pb2
from fairlead.wire.errors import DeployFailedError
from fairlead_gateway.control.adoption import VERSIONS_PER_START, application_goal, application_record, standing_record
from fairlead_gateway.control.core import Core
from fairlead_gateway.control.desired import ApplicationGoal, current_generation
from fairlead_gateway.control.standing import Traffic
from fairlead_gateway.control.store import Entry, Store, StoreError

logger = logging.getLogger("fairlead.controller")

APPLICATION = "application"
"""The kind of applications by name: ApplicationRecord."""
STANDING = "standing"
"""The kind of how applications stand, by name: StandingRecord."""
COUNTER = "counter"
"""The kind of counters: decimal numbers."""


class Persistence:
    """Writes down what a controller needs to go on where another one stopped.

    What users ask for is written before it counts; what follows from it when it has happened.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._core: Core
        self._standings: dict[str, store_pb2.StandingRecord] = {}
        self._failing = False
        self._frozen = False

    def restore(self, core: Core) -> None:
        """Has a new core know what was written down. Raises StoreError."""
        self._core = core
        counters = {key: int(value) for key, value in self.store.read(COUNTER).items()}
        starts = counters.get("starts", 0) + 1
        self.store.write(_counter("starts", starts))
        applications = [
            application_goal(store_pb2.ApplicationRecord.FromString(value))
            for value in self.store.read(APPLICATION).values()
        ]
        self._standings = {
            name: store_pb2.StandingRecord.FromString(value) for name, value in self.store.read(STANDING).items()
        }
        core.restore(
            sorted(applications, key=lambda goal: goal.generation),
            self._standings,
            generation=counters.get("generation", 0),
            version=starts * VERSIONS_PER_START,
        )

    def deploying(
        self,
        goals: Sequence[ApplicationGoal],
        deleted: Sequence[ApplicationGoal] = (),
        traffic: Mapping[str, Traffic] | None = None,
    ) -> None:
        """Writes down applications that are about to be deployed, and others that are about to be deleted.

        ``traffic``: how calls shall be spread of those whose name is in it.
        How those stand from then on is written with it: a controller that is killed now is followed by one that knows
        what ran well before. Raises DeployFailedError, and nothing is written, if that cannot be.
        """
        entries = [Entry(APPLICATION, goal.name, application_record(goal).SerializeToString()) for goal in goals]
        standings = {goal.name: self._core.goals.record_after(goal, (traffic or {}).get(goal.name)) for goal in goals}
        entries += [
            Entry(STANDING, name, None if record is None else record.SerializeToString())
            for name, record in standings.items()
        ]
        for goal in deleted:
            record = application_record(goal)
            record.deleting = True
            entries.append(Entry(APPLICATION, goal.name, record.SerializeToString()))
        entries += [_counter("generation", goal.generation) for goal in goals[-1:]]
        self._write_first(*entries)
        self._standings |= {name: record for name, record in standings.items() if record is not None}

    def spreading(self, core: Core, application: str, traffic: Traffic) -> None:
        """Writes down how an application's calls are about to be spread. Raises as :meth:`deploying`."""
        goal = core.desired.applications[application]
        record = standing_record(goal, core.standings[application], core.observed)
        del record.traffic[:]
        record.traffic.extend(traffic.values())
        self._write_first(Entry(STANDING, application, record.SerializeToString()))
        self._standings[application] = record

    def _write_first(self, *entries: Entry) -> None:
        try:
            self.store.write(*entries)
        except StoreError as error:
            raise DeployFailedError(f"Nothing was changed: {error}") from error

    def freeze(self) -> None:
        """Nothing is written any more: the instance ends, and shall come up again as it is."""
        self._frozen = True

    def follow(self, core: Core) -> None:
        """Writes down what has become of the applications. A disk that is full is tried again the next time."""
        if self._frozen:
            return
        now = {
            goal.name: standing_record(goal, core.standings[goal.name], core.observed)
            for goal in core.desired.applications.values()
        }
        entries = [
            Entry(STANDING, name, record.SerializeToString())
            for name, record in now.items()
            if self._standings.get(name) != record
        ]
        for name in self._standings.keys() - now.keys():
            entries += [Entry(STANDING, name, None), Entry(APPLICATION, name, None)]
        if not entries:
            return
        try:
            self.store.write(*entries)
        except StoreError as error:
            if not self._failing:
                logger.error("%s", error)  # noqa: TRY400 - one clear line
            self._failing = True
            return
        self._failing = False
        self._standings = now


def _counter(name: str, value: int) -> Entry:
    return Entry(COUNTER, name, str(value).encode())


def config_of(goal: ApplicationGoal) -> control_pb2.ApplicationConfig:
    """The configuration that an application was deployed with."""
    return control_pb2.ApplicationConfig(
        application=goal.name, config=goal.spec.config, generation=current_generation(goal)
    )
