"""Every way to a deployment's streams, in one shape for test_streams.py. Everything blocks, with patience."""

from __future__ import annotations

import asyncio
import http.client
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import grpc
import orjson

from fairlead.serve.handle import DeploymentHandle
from fairlead.v1 import serving_pb2, serving_pb2_grpc
from tests.e2e.peers import body
from tests.e2e.stage import PATIENCE_S


class Items(Protocol):
    """A stream of results."""

    def __next__(self) -> Any:
        """The next one; StopIteration after the last, any other exception for an error."""

    def cancel(self) -> None:
        """Gives the call up."""


class Source:
    """Items that a test sends when it likes, for callers that are threads or event loops."""

    def __init__(self, *items: Any, closed: bool = False) -> None:
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.taken = 0
        for item in items:
            self.put(item)
        if closed:
            self.close()

    def put(self, item: Any) -> None:
        self._items.put((item,))

    def close(self) -> None:
        self._items.put(None)

    def __iter__(self) -> Iterator[Any]:
        while (item := self._items.get(timeout=PATIENCE_S)) is not None:
            self.taken += 1
            yield item[0]

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            try:
                item = self._items.get_nowait()
            except queue.Empty:
                await asyncio.sleep(0.002)
                continue
            if item is None:
                return
            self.taken += 1
            yield item[0]


class Door:
    """A way in. ``uploads``: whether calls may have streams of arguments."""

    uploads = True

    def stream(self, method: str, *args: Any, timeout_s: float | None = None) -> Items:
        raise NotImplementedError

    def converse(self, method: str, source: Source, *args: Any) -> Items:
        raise NotImplementedError

    def close(self) -> None: ...


class HandleDoor(Door):
    """A handle in threads."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self.handle = handle.options(stream=True)

    def stream(self, method: str, *args: Any, timeout_s: float | None = None) -> Items:
        return getattr(self.handle.options(timeout_s=timeout_s), method).remote(*args)  # type: ignore[no-any-return]

    def converse(self, method: str, source: Source, *args: Any) -> Items:
        return getattr(self.handle, method).remote(aiter(source), *args)  # type: ignore[no-any-return]


class RelayDoor(HandleDoor):
    """Another deployment's handle."""

    def stream(self, method: str, *args: Any, timeout_s: float | None = None) -> Items:
        return self.handle.options(timeout_s=timeout_s).stream.remote(method, *args)  # type: ignore[no-any-return]

    def converse(self, method: str, source: Source, *args: Any) -> Items:
        return self.handle.converse.remote(aiter(source), method, *args)  # type: ignore[no-any-return]


class AsyncHandleDoor(HandleDoor):
    """A handle in an event loop."""

    def __init__(self, handle: DeploymentHandle) -> None:
        super().__init__(handle)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def stream(self, method: str, *args: Any, timeout_s: float | None = None) -> Items:
        return self._made(lambda: super(AsyncHandleDoor, self).stream(method, *args, timeout_s=timeout_s))

    def converse(self, method: str, source: Source, *args: Any) -> Items:
        return self._made(lambda: super(AsyncHandleDoor, self).converse(method, source, *args))

    def _made(self, make: Any) -> Items:
        async def made() -> Any:
            return make()

        return _AsyncItems(self.loop, asyncio.run_coroutine_threadsafe(made(), self.loop).result(PATIENCE_S))

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE_S)
        self.loop.close()


class _AsyncItems:
    def __init__(self, loop: asyncio.AbstractEventLoop, generator: Any) -> None:
        self.loop = loop
        self.generator = generator

    def __next__(self) -> Any:
        async def step() -> Any:
            return [item async for item in _first(self.generator)]

        found = asyncio.run_coroutine_threadsafe(step(), self.loop).result(PATIENCE_S)
        if not found:
            raise StopIteration
        return found[0]

    def cancel(self) -> None:
        self.generator.cancel()


async def _first(generator: Any) -> AsyncIterator[Any]:
    async for item in generator:
        yield item
        return


class GrpcDoor(Door):
    """A stub on the gRPC port."""

    def __init__(self, address: str, application: str) -> None:
        self.channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.stub = serving_pb2_grpc.ServingServiceStub(self.channel)
        self.application = application

    def stream(self, method: str, *args: Any, timeout_s: float | None = None) -> Items:
        target = serving_pb2.Target(application=self.application, method=method)
        request = serving_pb2.CallStreamRequest(target=target, payload=body(*args))
        return _GrpcItems(self.stub.CallStream(request, timeout=timeout_s))

    def converse(self, method: str, source: Source, *args: Any) -> Items:
        target = serving_pb2.Target(application=self.application, method=method)

        def requests() -> Iterator[serving_pb2.CallBidiRequest]:
            yield serving_pb2.CallBidiRequest(target=target, payload=body(*args))
            for item in source:
                yield serving_pb2.CallBidiRequest(payload=body(data=orjson.dumps(item)))

        return _GrpcItems(self.stub.CallBidi(requests()))

    def close(self) -> None:
        self.channel.close()


class _GrpcItems:
    def __init__(self, call: Any) -> None:
        self.call = call

    def __next__(self) -> Any:
        try:
            return orjson.loads(next(self.call).payload.data)
        except grpc.RpcError as error:
            raise RuntimeError(error.details()) from error  # type: ignore[attr-defined]

    def cancel(self) -> None:
        self.call.cancel()


class HttpDoor(Door):
    """A HTTP client, for generators that a handler returns: numbers as JSON lines, strings as they are."""

    uploads = False

    def __init__(self, base: str, prefix: str) -> None:
        self.host = urlsplit(base).netloc
        self.prefix = prefix
        self.opened: list[_HttpItems] = []

    def stream(self, method: str, *args: Any, timeout_s: float | None = None) -> Items:
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE_S)
        headers = {} if timeout_s is None else {"x-request-timeout-seconds": str(timeout_s)}
        query = f"method={method}&arguments={quote(orjson.dumps(args))}"
        connection.request("GET", f"{self.prefix}?{query}", headers=headers)
        self.opened.append(_HttpItems(connection))
        return self.opened[-1]

    def close(self) -> None:
        for items in self.opened:
            items.cancel()


class _HttpItems:
    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection
        self.response: http.client.HTTPResponse | None = None

    def __next__(self) -> Any:
        if self.response is None:
            self.response = self.connection.getresponse()
        if self.response.status != 200:
            raise RuntimeError(f"{self.response.status} {self.response.read().decode()}")
        if self.response.headers["content-type"].startswith("application/x-ndjson"):
            line = self.response.readline()
            if not line:
                if self.response.chunk_left is not None:  # type: ignore[attr-defined]
                    raise RuntimeError("the response was cut off")
                raise StopIteration
            return orjson.loads(line)
        piece = self.response.read(1024)
        if not piece:
            raise StopIteration
        return piece.decode()

    def cancel(self) -> None:
        self.connection.close()
        if self.response is not None:
            self.response.close()
