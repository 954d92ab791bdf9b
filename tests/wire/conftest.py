"""Links for the wire's tests: over memory, over grpc.aio and over a plain Unix socket, the same tests for all."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from fairlead.wire import grpc_link as grpc_module
from fairlead.wire import local as local_module
from fairlead.wire import memory
from fairlead.wire.grpc_link import SERVING_SESSION, connect, session_handler
from fairlead.wire.link import Link
from fairlead.wire.local import LocalListener, connect_local, listen_local
from fairlead.wire.memory import link_pair
from tests.wire.calls import PATIENCE, Service, until


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name: paths of Unix sockets are limited to 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="fl-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def tidy(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fails a test that leaves tasks behind, or exceptions that nobody retrieved."""
    gc.collect()  # what the tests before it have left is not its own
    caplog.clear()
    yield
    here = asyncio.current_task()
    rest = [task for task in asyncio.all_tasks() if task is not here]
    if rest:
        _, rest = await asyncio.wait(rest, timeout=PATIENCE)
    assert not rest
    gc.collect()
    records = [*caplog.get_records("call"), *caplog.records]
    assert [record.getMessage() for record in records if record.name.startswith(("asyncio", "grpc"))] == []


class Transport:
    """Makes pairs of links whose acceptor's end is served by ``service``."""

    def __init__(self) -> None:
        self.service = Service()
        self.links: list[Link] = []

    async def pair(self, **options: Any) -> tuple[Link, Link]:
        raise NotImplementedError

    def hold_openers(self, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
        """Openers that are made after this read nothing until the event is set."""
        raise NotImplementedError

    async def close(self) -> None:
        for link in self.links:
            await asyncio.wait_for(link.close(), PATIENCE)
        for task in self.service.tasks:
            task.cancel()


class Memory(Transport):
    """Links in memory."""

    async def pair(self, **options: Any) -> tuple[Link, Link]:
        opener, acceptor = link_pair(self.service.accept, **options)
        self.links += (opener, acceptor)
        return opener, acceptor

    def hold_openers(self, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
        read_on = asyncio.Event()
        pump = memory._pump

        async def held(source: Link, target: Link) -> None:
            if target.session.opener:
                await read_on.wait()
            await pump(source, target)

        monkeypatch.setattr(memory, "_pump", held)
        return read_on


class Grpc(Transport):
    """Links over grpc.aio on a Unix socket."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self.server: Any = None
        self.alive: set[Link] = set()
        self.accepted: asyncio.Queue[Link] = asyncio.Queue()

    async def pair(self, **options: Any) -> tuple[Link, Link]:
        if self.server is None:
            await self.serve(**options)
        opener = await connect(self.address, SERVING_SESSION)
        self.links.append(opener)
        return opener, await asyncio.wait_for(self.accepted.get(), PATIENCE)

    async def serve(self, **options: Any) -> None:
        handler = session_handler(
            lambda context: self.service.accept, links=self.alive, on_link=self.accepted.put_nowait, **options
        )
        self.server = grpc.aio.server()
        self.server.add_registered_method_handlers("fairlead.v1.ServingService", {"Session": handler})
        self.server.add_insecure_port(self.address)
        await self.server.start()

    def hold_openers(self, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
        read_on = asyncio.Event()
        read = grpc_module._read_from

        async def held(link: Link, call: Any) -> None:
            await read_on.wait()
            await read(link, call)

        monkeypatch.setattr(grpc_module, "_read_from", held)
        return read_on

    async def close(self) -> None:
        await super().close()
        if self.server is not None:
            await self.server.stop(None)
        await until(lambda: not self.alive)


class Local(Transport):
    """Links over a plain Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.listener: LocalListener | None = None
        self.alive: set[Link] = set()
        self.accepted: asyncio.Queue[Link] = asyncio.Queue()

    async def pair(self, **options: Any) -> tuple[Link, Link]:
        if self.listener is None:
            await self.serve(**options)
        opener = await connect_local(self.path)
        self.links.append(opener)
        return opener, await asyncio.wait_for(self.accepted.get(), PATIENCE)

    async def serve(self, **options: Any) -> None:
        self.listener = await listen_local(
            self.path, lambda _: self.service.accept, links=self.alive, on_link=self.accepted.put_nowait, **options
        )

    def hold_openers(self, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
        read_on = asyncio.Event()
        greet = local_module._Pump._greet

        def held(pump: Any, data: bytes) -> bool:
            greeted = greet(pump, data)
            if greeted and pump.link.session.opener:
                pump._transport.pause_reading()

                async def resume() -> None:
                    await read_on.wait()
                    if pump._transport is not None:
                        pump._transport.resume_reading()

                self.service.tasks.add(asyncio.create_task(resume()))
            return bool(greeted)

        monkeypatch.setattr(local_module._Pump, "_greet", held)
        return read_on

    async def close(self) -> None:
        await super().close()
        if self.listener is not None:
            await self.listener.close()
        await until(lambda: not self.alive)


@pytest.fixture(params=["memory", "grpc", "local"])
async def transport(request: pytest.FixtureRequest, directory: Path, tidy: None) -> AsyncIterator[Transport]:
    made: Transport
    if request.param == "memory":
        made = Memory()
    elif request.param == "grpc":
        made = Grpc(f"unix:{directory}/s")
    else:
        made = Local(f"{directory}/s")
    yield made
    await made.close()


@pytest.fixture
async def over_grpc(directory: Path, tidy: None) -> AsyncIterator[Grpc]:
    made = Grpc(f"unix:{directory}/s")
    yield made
    await made.close()
