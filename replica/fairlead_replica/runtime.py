"""The calls of a replica: which are taken, which wait, which are refused, and when there are none left."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.serve.context import set_background_context
from fairlead.serve.multiplexing.registry import ModelSnapshot, Registry
from fairlead.v1 import session_pb2
from fairlead.wire.errors import ReplicaBusyError, ReplicaDrainingError
from fairlead.wire.link import Link
from fairlead.wire.messages import MAX_MESSAGE
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.stream import Stream
from fairlead_replica.asgi_execution import AsgiExecution
from fairlead_replica.call import Call
from fairlead_replica.callable import UserCallable
from fairlead_replica.execution import Execution
from fairlead_replica.measures import ReplicaMeasures
from fairlead_replica.pool import Mailbox, ThreadPool
from fairlead_replica.routed.bindings import Bindings
from fairlead_replica.routed.execution import RoutedExecution
from fairlead_replica.typed.execution import TypedExecution
from fairlead_replica.typed.services import TypedServices

_PROTOBUF = session_pb2.SERIALIZATION_PROTOBUF
_HTTP = session_pb2.SERIALIZATION_HTTP

MAX_WAITING = 1000
"""Broadcast calls that wait for a slot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeStatistics:
    """A snapshot of a runtime."""

    ongoing: int
    """Calls that hold a slot."""
    waiting: int
    """Broadcast calls that wait for one."""
    limit: int
    """Slots."""
    draining: bool
    """Whether new calls are refused."""


class Runtime:
    """Runs at most ``max_ongoing_requests`` calls at once. Belongs to the event loop that it was made on."""

    def __init__(
        self,
        target: UserCallable,
        *,
        application: str = "",
        max_ongoing_requests: int,
        max_waiting: int = MAX_WAITING,
        max_message: int = MAX_MESSAGE,
        links: set[Link] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Runs calls of ``target``. ``links``: those alive, which whoever made the set keeps true.

        ``labels``: what its metrics are labelled with.
        """
        self.loop = asyncio.get_running_loop()
        self.callable = target
        self.application = application
        self.max_message = max_message
        self.context = contextvars.copy_context()
        """What each call's context starts from."""
        set_background_context(self.context)
        self.mailbox = Mailbox(self.loop)
        self.pool = ThreadPool(max_ongoing_requests, self.mailbox)
        self.deployment = (labels or {}).get("deployment", "")
        self.name = (labels or {}).get("replica", "")
        """The replica's id."""
        self.measures = ReplicaMeasures(labels or {}, lambda: (len(self._calls), self._limit))
        self._limit = max_ongoing_requests
        self._max_waiting = max_waiting
        self._calls: set[Call] = set()
        self._waiting: deque[Call] = deque()
        self._told_full: set[Link] = set()
        """Gateways that send nothing until they hear of a free slot."""
        self._draining = False
        self._idle = asyncio.Event()
        self._sequence = 0
        self._services: TypedServices | None = None
        self._bindings = Bindings(self.callable.target)
        self._registry: Registry | None = None
        self.models = ModelSnapshot()
        """The multiplexed models that are loaded and loading."""
        self._loaded_models: session_pb2.LoadedModels | None = None
        self._routing_stats: bytes | None = None
        self._links = set() if links is None else links
        self._busy = self._busy_outcome()

    def __repr__(self) -> str:
        return f"<Runtime {self.statistics()!r}>"

    def statistics(self) -> RuntimeStatistics:
        """How it is. From any thread."""
        return RuntimeStatistics(
            ongoing=len(self._calls), waiting=len(self._waiting), limit=self._limit, draining=self._draining
        )

    def load(self) -> session_pb2.Load:
        """A load report. From any thread; numbered, so that a late one can be told."""
        self._sequence = sequence = self._sequence + 1
        return session_pb2.Load(ongoing=len(self._calls) + len(self._waiting), sequence=sequence)

    def use_models(self, registry: Registry) -> None:
        """Reports the models of ``registry`` to gateways from now on, and each change of them at once."""
        self._registry = registry
        registry.listen(self._models_changed)
        self._models_changed()

    def use_services(self, services: TypedServices) -> None:
        """Serves typed services from now on."""
        self._services = services

    def _models_changed(self) -> None:
        assert self._registry is not None
        if self._registry.multiplexes:
            self.models = models = self._registry.snapshot()
            self._loaded_models = session_pb2.LoadedModels(
                model_ids=sorted((*models.loaded, *models.loading)),
                load_time_us=int(models.load_time_s * 1e6),
                capacity=models.capacity,
                unavailable_model_ids=models.unavailable,
            )
            for link in self._links:
                link.report_load()

    def report_stats(self, stats: bytes) -> None:
        """Tells gateways at once what the user's ``record_routing_stats`` returned, an object in JSON."""
        self._routing_stats = stats
        for link in self._links:
            link.report_load()

    def opened(self, link: Link) -> None:
        """A gateway's link: from now on it carries load reports, the first one at once if there is more than load."""
        reported: session_pb2.LoadedModels | None = None
        stats_reported: bytes | None = None

        def load() -> session_pb2.Load:
            nonlocal reported, stats_reported
            report = self.load()
            if report.ongoing >= self._limit:
                self._told_full.add(link)
            stats = self._routing_stats
            if stats is not stats_reported and stats is not None:
                stats_reported = stats
                report.routing_stats = stats
            models = self._loaded_models
            if models is not reported and models is not None:
                reported = models
                report.models.CopyFrom(models)
            return report

        link.load = load
        if self._loaded_models is not None or self._routing_stats is not None:
            link.report_load()

    def acceptor(self, _context: Any = None) -> Any:
        """For :func:`fairlead.wire.local.listen_local`: whoever calls gets the same."""
        return self.accept

    def accept(self, stream: Stream, header: session_pb2.CallHeader, payload: bytes, more: bool, last: bool) -> None:
        """Takes a call from a link, or ends it with an error that says that it did not start."""
        if header.metrics:
            stream.link.end(stream, None, self.measures.report().SerializeToString())
            return
        if self._draining:
            error = ReplicaDrainingError("the replica is draining; the call did not start")
            stream.link.end(stream, outcome_of(error))
        elif len(self._calls) < self._limit:
            stream.owner = call = self._execution(stream, header)
            self._calls.add(call)
            call.begin(payload, more, last)
        elif (header.broadcast or header.reservation_id) and len(self._waiting) < self._max_waiting:
            # A broadcast is for every replica, and a slot was reserved here: neither can go elsewhere, so it waits.
            stream.owner = call = self._execution(stream, header, admitted=False)
            self._waiting.append(call)
            call.begin(payload, more, last)
        else:
            stream.link.end(stream, self._busy)
            self._told_full.add(stream.link)

    def _execution(self, stream: Stream, header: session_pb2.CallHeader, *, admitted: bool = True) -> Call:
        if header.request_serialization == _PROTOBUF and self._services is not None:
            return TypedExecution(self, stream, header, self._services, admitted=admitted)
        if self.callable.asgi is not None and header.request_serialization == _HTTP:
            return AsgiExecution(self, stream, header, admitted=admitted)
        if header.method and header.request_serialization == _HTTP:
            return RoutedExecution(self, stream, header, self._bindings, admitted=admitted)
        return Execution(self, stream, header, admitted=admitted)

    def release(self, call: Call) -> None:
        """The call has ended and gives its slot back; the oldest waiting one gets it."""
        if call.admitted:
            self._calls.discard(call)
        else:
            self._waiting.remove(call)
        while self._waiting and len(self._calls) < self._limit:
            waiting = self._waiting.popleft()
            self._calls.add(waiting)
            waiting.admit()
        if self._told_full and len(self._calls) < self._limit:
            # A gateway that has nothing else under way here would not hear of the free slot.
            told, self._told_full = self._told_full, set()
            for link in told:
                link.report_load()
        if self._draining and not self._calls:
            self._idle.set()

    def resize(self, max_ongoing_requests: int) -> None:
        """Changes how many calls run at once. Those under way go on."""
        self._limit = max_ongoing_requests
        self.pool.grow(max_ongoing_requests)
        self._busy = self._busy_outcome()

    def drain(self) -> None:
        """Refuses new calls from now on. Those that run or wait go on."""
        self._draining = True
        if not self._calls:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Returns when the replica is draining and the last call has ended."""
        await self._idle.wait()

    def cancel_all(self) -> None:
        """Interrupts every call, as if its caller had given up."""
        for call in [*self._waiting, *self._calls]:
            call.on_cancel(call.stream)

    def _busy_outcome(self) -> session_pb2.Outcome:
        message = f"the replica runs {self._limit} calls, as many as it may; the call did not start"
        return outcome_of(ReplicaBusyError(message))
