"""Real clients of Connect and gRPC-Web: connect-node's transports and buf curl, which have only descriptors.

Without a toolchain the tests of connect-node skip; where CI=true they fail.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fairlead import serve
from fairlead.serve.api import instance_status
from tests.clients import build
from tests.e2e.web_app import DESCRIPTORS, PROTO, Echo

pytestmark = pytest.mark.timeout(180)

SERVICE = "web.v1.EchoService"
TRANSPORTS = ["connect", "connect-json", "connect-get", "grpc-web", "grpc-web-json", "grpc"]
BUF = Path(sys.executable).parent / "buf"


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The HTTP and the gRPC address of an instance that serves the application."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path_factory.mktemp("s")))
        serve.start(http_options={"port": 0}, grpc_options={"port": 0})
        try:
            serve.run(Echo.bind(), name="web", route_prefix="/web")
            (gateway,) = instance_status().gateways
            yield f"http://{gateway.http_address}", f"http://{gateway.grpc_address}"
        finally:
            serve.shutdown()


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("d") / "web.binpb"
    path.write_bytes(DESCRIPTORS)
    return path


@pytest.fixture(scope="module")
def command() -> list[str]:
    try:
        return build.connect_client()
    except build.ToolchainMissingError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI tests this client, but {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=TRANSPORTS)
def observed(
    request: pytest.FixtureRequest, command: list[str], addresses: tuple[str, str], descriptors: Path
) -> dict[str, Any]:
    """What the client observed through one transport."""
    http, grpc = addresses
    url = grpc if request.param == "grpc" else http
    done = subprocess.run(
        [*command, request.param, url, str(descriptors)], capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.polyglot
class TestConnectNode:
    def test_unary(self, observed: dict[str, Any]) -> None:
        assert observed["unary"] == {
            "text": "hällo",
            "number": "9007199254740993",
            "request_id": True,
            "first": "mine",
            "told": "mine",
            "told_bin": [255, 0],
            "empty": "",
            "large": 300_000,
            "looked": "0",
        }

    def test_errors_with_details(self, observed: dict[str, Any]) -> None:
        errors = observed["errors"]
        assert errors["missing"] == errors["stream"] == {"code": "NotFound", "message": "no such thing"}
        assert errors["details"] == ["it never was"]
        assert errors["crash"]["code"] == "Internal"
        assert "Traceback" not in errors["crash"]["message"]

    def test_initial_metadata_come_before_messages(self, observed: dict[str, Any]) -> None:
        assert observed["head"] == {"first": True, "bin": [1], "texts": 1}

    def test_initial_metadata_of_a_stream_that_fails_at_once(self, observed: dict[str, Any]) -> None:
        assert observed["headOfAnError"] == {"code": "NotFound", "message": "no such thing", "first": "missing"}

    def test_server_stream(self, observed: dict[str, Any]) -> None:
        assert observed["serverStream"] == {
            "texts": ["n0", "n1", "n2"],
            "before": ["fail0", "fail1"],
            "failed": {"code": "ResourceExhausted", "message": "enough – really"},
        }

    def test_client_stream_and_bidi(self, observed: dict[str, Any]) -> None:
        assert observed["clientStream"] == "a++b"
        assert observed["bidi"] == ["A", "B", "C"]

    def test_deadline(self, observed: dict[str, Any]) -> None:
        assert observed["deadline"] == {"code": "DeadlineExceeded", "noticed": True}

    def test_cancel(self, observed: dict[str, Any]) -> None:
        assert observed["cancel"] == {"code": "Canceled", "seen": 2, "noticed": True}


class TestBufCurl:
    def curl(
        self, url: str, protocol: str, method: str, data: str, *flags: str, schema: bool = True
    ) -> subprocess.CompletedProcess[str]:
        source = ["--schema", str(PROTO.parent)] if schema else []
        return subprocess.run(
            [str(BUF), "curl", "--protocol", protocol, *source, *flags, "-d", data, f"{url}/{SERVICE}/{method}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @pytest.mark.parametrize("protocol", ["connect", "grpcweb"])
    def test_unary(self, protocol: str, addresses: tuple[str, str]) -> None:
        done = self.curl(addresses[0], protocol, "Echo", '{"text": "hello"}')
        assert (done.returncode, json.loads(done.stdout)) == (0, {"text": "hello"}), done.stderr

    def test_over_grpc_with_reflection(self, addresses: tuple[str, str]) -> None:
        flags = ["--http2-prior-knowledge", "--reflect"]
        done = self.curl(addresses[1], "grpc", "Echo", '{"text": "hello"}', *flags, schema=False)
        assert (done.returncode, json.loads(done.stdout)) == (0, {"text": "hello"}), done.stderr

    @pytest.mark.parametrize("protocol", ["connect", "grpcweb"])
    def test_streams(self, protocol: str, addresses: tuple[str, str]) -> None:
        done = self.curl(addresses[0], protocol, "Count", '{"text": "n", "number": 3}')
        assert [document["text"] for document in documents(done.stdout)] == ["n0", "n1", "n2"], done.stderr
        done = self.curl(addresses[0], protocol, "Join", '{"text": "a"} {"text": "b"}')
        assert json.loads(done.stdout) == {"text": "a+b"}, done.stderr

    @pytest.mark.parametrize("protocol", ["connect", "grpcweb"])
    def test_an_error(self, protocol: str, addresses: tuple[str, str]) -> None:
        done = self.curl(addresses[0], protocol, "Echo", '{"text": "missing"}')
        assert done.returncode != 0
        assert "not_found" in done.stderr
        (detail,) = json.loads(done.stderr)["details"]
        assert (detail["type"], base64.b64decode(detail["value"] + "=")[2:]) == ("web.v1.Reason", b"it never was")


def test_the_gateways_own_service(addresses: tuple[str, str]) -> None:
    call = {
        "target": {"application": "web", "method": "greet"},
        "payload": {"contentType": "application/json", "data": base64.b64encode(b'[["you"]]').decode()},
    }
    headers = {"connect-protocol-version": "1"}
    url = f"{addresses[0]}/fairlead.v1.ServingService/Call"
    answer = httpx.post(url, json=call, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert base64.b64decode(answer.json()["payload"]["data"]) == b'"hello you"'
    call["payload"]["contentType"] = "application/vnd.fairlead.pickle"
    refused = httpx.post(url, json=call, headers=headers, trust_env=False)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")


def documents(text: str) -> Iterator[dict[str, Any]]:
    """The JSON documents in a text, one after the other."""
    decoder = json.JSONDecoder()
    while text := text.strip():
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:]
