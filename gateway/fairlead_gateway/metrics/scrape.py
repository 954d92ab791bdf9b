"""Asking everybody for what they have measured: the replicas over the sessions that are there, the other workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from google.protobuf.message import DecodeError

from fairlead.serve.measures import GAUGE, Family, Registry
from fairlead.v1 import metrics_pb2, session_pb2
from fairlead.wire.dial import dial
from fairlead.wire.errors import FairleadError
from fairlead.wire.grpc_link import SERVING_SESSION
from fairlead.wire.link import Link
from fairlead.wire.messages import MessageAssembler
from fairlead.wire.stream import Stream
from fairlead_gateway.routing.table import RouteTable

logger = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""Seconds that a process may take to answer; one that is late is left out, and counted."""

_LIMIT = 16 * 1024 * 1024

Dial = Callable[[str], Awaitable[Link]]


async def _dial(address: str) -> Link:
    return await dial(address, SERVING_SESSION, timeout_s=PATIENCE_S)


class _Question:
    """A call that asks for a report (CallOwner)."""

    def __init__(self, link: Link) -> None:
        self._assembler = MessageAssembler(_LIMIT)
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._stream = link.open(session_pb2.CallHeader(metrics=True), b"", self)

    async def answer(self) -> metrics_pb2.MetricsReport:
        """The report. Raises FairleadError, TimeoutError or DecodeError."""
        try:
            message = await asyncio.wait_for(self._answer, PATIENCE_S)
        except TimeoutError:
            self._stream.link.cancel(self._stream)
            raise
        return metrics_pb2.MetricsReport.FromString(message)

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None:
        try:
            self._assembler.add(stream, payload, more)
        except FairleadError as error:
            self._fail(error)

    def on_head(self, stream: Stream, metadata: Sequence[session_pb2.Metadata]) -> None: ...

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None:
        if outcome is not None or payload is None:
            self._fail(FairleadError("no report" if outcome is None else outcome.status.message))
            return
        message = self._assembler.add(stream, payload, False)
        if message is not None and not self._answer.done():
            self._answer.set_result(message)

    def on_cancel(self, stream: Stream) -> None: ...

    def on_writable(self, stream: Stream) -> None: ...

    def _fail(self, error: FairleadError) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)


class Scrape:
    """Collects the reports of this worker, of all replicas that it is connected with, and of the other workers.

    ``registry``: what this worker has measured. Belongs to the worker's loop.
    """

    def __init__(
        self, registry: Registry, table: RouteTable, own_address: Callable[[], str], dial: Dial = _dial
    ) -> None:
        self._registry = registry
        self._table = table
        self._own_address = own_address
        self._dial = dial

    def own(self) -> metrics_pb2.MetricsReport:
        """This worker's report alone."""
        return self._registry.report()

    async def collect(self) -> list[metrics_pb2.MetricsReport]:
        """All reports; who does not answer in time is left out, and counted in ``serve_processes_not_scraped``."""
        questions: list[Awaitable[metrics_pb2.MetricsReport]] = []
        for application in self._table.applications.values():
            for deployment in application.deployments.values():
                links = (replica.link for replica in deployment.replicas.values())
                questions.extend(self._ask(link) for link in links if link is not None)
        own = self._own_address()
        questions.extend(self._ask_worker(address) for address in self._table.gateway_addresses if address != own)
        answers = await asyncio.gather(*questions, return_exceptions=True)
        reports = [answer for answer in answers if isinstance(answer, metrics_pb2.MetricsReport)]
        for answer in answers:
            if isinstance(answer, BaseException):
                if not isinstance(answer, FairleadError | TimeoutError | DecodeError):
                    raise answer
                logger.debug("a process could not be asked for its metrics: %s", answer)
        missing = Family("serve_processes_not_scraped", "Processes that did not answer this scrape in time.", GAUGE)
        missing.set(len(answers) - len(reports))
        counted = metrics_pb2.MetricsReport(families=[missing.report({})])
        return [self.own(), counted, *reports]

    @staticmethod
    async def _ask(link: Link) -> metrics_pb2.MetricsReport:
        return await _Question(link).answer()

    async def _ask_worker(self, address: str) -> metrics_pb2.MetricsReport:
        link = await self._dial(address)
        try:
            return await self._ask(link)
        finally:
            await link.close()
