"""Who is asked for metrics, and what becomes of those who do not answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fairlead.serve.measures import Registry
from fairlead.v1 import metrics_pb2, session_pb2
from fairlead.wire.errors import ConnectionLostError
from fairlead.wire.link import Link
from fairlead.wire.memory import link_pair
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.stream import Stream
from fairlead_gateway.metrics import scrape as scrape_module
from fairlead_gateway.metrics.scrape import Scrape
from fairlead_gateway.routing.table import RouteTable
from tests.routing.fake_replica import FakeClock, application, routes, snapshot


def report(name: str, filler: int = 0) -> bytes:
    registry = Registry({"process": name})
    family = registry.gauge("up", "x" * filler)
    family.set(1)
    return registry.report().SerializeToString()


class Process:
    """Somebody at the other end of a link. ``answer``: bytes, an error, or None for silence."""

    def __init__(self, answer: bytes | Exception | None) -> None:
        self.answer = answer
        self.cancelled = asyncio.Event()
        self.link, self.other = link_pair(self.accept)

    def accept(self, stream: Stream, header: session_pb2.CallHeader, payload: bytes, more: bool, last: bool) -> None:
        assert header.metrics
        stream.owner = self
        if isinstance(self.answer, Exception):
            stream.link.end(stream, outcome_of(self.answer))
        elif self.answer is not None:
            stream.link.end(stream, None, self.answer)

    def on_cancel(self, stream: Stream) -> None:
        self.cancelled.set()
        stream.link.end(stream)

    def on_message(self, *arguments: Any) -> None: ...

    def on_end(self, *arguments: Any) -> None: ...

    def on_writable(self, stream: Stream) -> None: ...


@pytest.fixture
def table() -> RouteTable:
    made = RouteTable(FakeClock())
    made.apply(snapshot(application(routes("a", "b"))))
    return made


def processes(reports: list[metrics_pb2.MetricsReport]) -> list[str]:
    found = [sample.labels["process"] for each in reports for family in each.families for sample in family.samples]
    return sorted(name for name in found if name)


def missing(reports: list[metrics_pb2.MetricsReport]) -> float:
    return next(
        family.samples[0].value
        for each in reports
        for family in each.families
        if family.name == "serve_processes_not_scraped"
    )


def scraping(table: RouteTable, workers: dict[str, Process] | None = None) -> Scrape:
    registry = Registry({"process": "this"})
    registry.gauge("up", "").set(1)

    async def dial(address: str) -> Link:
        found = (workers or {}).get(address)
        if found is None:
            raise ConnectionLostError(f"nobody at {address}")
        return found.link

    return Scrape(registry, table, lambda: "wire:/this", dial)


def connect(table: RouteTable, *answers: bytes | Exception | None) -> list[Process]:
    replicas = table.find("app", "Echo").replicas.values()
    made = [Process(answer) for answer in answers]
    for replica, process in zip(replicas, made, strict=True):
        replica.link = process.link
    return made


async def close(*made: Process) -> None:
    for process in made:
        await process.link.close()
        await process.other.close()


async def test_replicas_and_the_other_workers_are_asked(table: RouteTable):
    made = connect(table, report("a"), report("b", filler=2_000_000))  # a large one comes in pieces
    other = Process(report("other"))
    table.gateway_addresses = ("wire:/this", "wire:/other")
    reports = await scraping(table, {"wire:/other": other}).collect()
    assert processes(reports) == ["a", "b", "other", "this"]
    assert missing(reports) == 0
    assert other.link.closed
    await close(*made, other)


async def test_who_does_not_answer_is_left_out(table: RouteTable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scrape_module, "PATIENCE_S", 0.01)
    made = connect(table, None, report("b"))
    table.gateway_addresses = ("wire:/gone",)
    reports = await scraping(table).collect()
    assert processes(reports) == ["b", "this"]
    assert missing(reports) == 2
    await asyncio.wait_for(made[0].cancelled.wait(), 60)
    await close(*made)


@pytest.mark.parametrize("answer", [RuntimeError("no"), b"\xff\xff"])
async def test_nonsense_is_left_out(table: RouteTable, answer: bytes | Exception):
    made = connect(table, answer, report("b"))
    reports = await scraping(table).collect()
    assert processes(reports) == ["b", "this"]
    assert missing(reports) == 1
    await close(*made)


async def test_a_replica_that_is_not_connected_is_not_asked(table: RouteTable):
    reports = await scraping(table).collect()
    assert processes(reports) == ["this"]
    assert missing(reports) == 0
