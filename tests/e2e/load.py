"""Calls that come in all the time, by every door, while a test does something to what they call."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import httpx
from google.api import httpbody_pb2

from fairlead import serve
from fairlead.v1 import serving_pb2, serving_pb2_grpc
from tests.e2e.conftest import Ports
from tests.e2e.stage import PATIENCE_S, wait_until


class Load:
    """Callers at three doors that never pause. A context manager: leaving it stops them, and says what went wrong."""

    def __init__(self, ports: Ports, name: str = "default", path: str = "/", *, streams: bool = True) -> None:
        self._answers: list[tuple[float, dict[str, Any]]] = []
        """With the time when each was asked for."""
        self.errors: list[str] = []
        self._stopping = False
        self._channel = grpc.insecure_channel(ports.grpc)
        self._stub = serving_pb2_grpc.ServingServiceStub(self._channel)
        self._client = httpx.Client(base_url=ports.http, timeout=PATIENCE_S)
        self._handle = serve.get_app_handle(name)
        self._target = serving_pb2.Target(application=name)
        doors: list[Callable[[], Any]] = [self._by_handle, self._by_grpc, self._by_http]
        if streams:
            doors.append(self._by_stream)
        self._path = path
        self._threads = [threading.Thread(target=self._call, args=(door,)) for door in doors]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait_for_more()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping = True
        for thread in self._threads:
            thread.join()
        self._channel.close()
        self._client.close()

    def _by_handle(self) -> Any:
        return self._handle.remote().result(timeout_s=PATIENCE_S)

    def _by_grpc(self) -> Any:
        body = httpbody_pb2.HttpBody(content_type="application/json", data=b"[[], {}]")
        request = serving_pb2.CallRequest(target=self._target, payload=body)
        return json.loads(self._stub.Call(request, timeout=PATIENCE_S).payload.data)

    def _by_http(self) -> Any:
        return self._client.get(self._path).raise_for_status().json()

    def _by_stream(self) -> Any:
        assert list(self._handle.options(stream=True).steps.remote()) == [0, 1, 2]
        return None

    def _call(self, door: Callable[[], Any]) -> None:
        while not self._stopping:
            asked = time.monotonic()
            try:
                answer = door()
            except Exception as error:
                self.errors.append(f"{door.__name__}: {error!r}")
            else:
                if answer is not None:
                    self._answers.append((asked, answer))

    def wait_for_more(self, count: int = 60) -> None:
        """Blocks until further calls were answered."""
        self.seen(count)

    def seen(self, count: int = 60) -> list[dict[str, Any]]:
        """The answers to the next calls: what was asked for before is not among them."""
        since, start = time.monotonic(), len(self._answers)

        def answers() -> list[dict[str, Any]]:
            return [answer for asked, answer in self._answers[start:] if asked >= since]

        wait_until(lambda: len(answers()) >= count, lambda: self.errors)
        return answers()
