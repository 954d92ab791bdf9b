"""Programs in Go and JavaScript that have only the .proto files do what a Python handle can.

Each client plays a scenario against the gateway's TCP port and prints what it observed; here stands what that must be,
the same for both. Without a toolchain the tests skip; where CI=true they fail.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ormsgpack
import pytest

from fairlead import serve
from fairlead.serve.api import instance_status
from tests.clients import build
from tests.e2e.polyglot_app import Polyglot

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]  # a first build compiles grpc-go

REPLICAS = 3
SCENARIO_TIMEOUT_S = 60
Play = Callable[[str], Any]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the gRPC port of an instance that serves the application."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path_factory.mktemp("s")))
        serve.start(http_options={"port": 0}, grpc_options={"port": 0})
        try:
            deployment = serve.deployment(Polyglot, num_replicas=REPLICAS, max_ongoing_requests=16)
            serve.run(deployment.bind(), name="polyglot", route_prefix=None)
            (gateway,) = instance_status().gateways
            yield gateway.grpc_address
        finally:
            serve.shutdown()


@pytest.fixture(scope="module", params=["go", "node"])
def client(request: pytest.FixtureRequest) -> list[str]:
    """The command that runs a client."""
    try:
        return build.go_client() if request.param == "go" else build.node_client()
    except build.ToolchainMissingError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI tests both clients, but {error}")
        pytest.skip(str(error))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that must not come to be."""
    return tmp_path / "canary"


@pytest.fixture
def play(client: list[str], target: str, canary: Path) -> Play:
    """Plays a scenario and gives what the client observed."""

    def run(scenario: str) -> Any:
        done = subprocess.run(
            [*client, target, scenario, str(canary)],
            capture_output=True,
            text=True,
            check=False,
            timeout=SCENARIO_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def assert_failed(failure: dict[str, Any], code: str, reason: str, *mentioned: str) -> None:
    """That a failure has a code and a reason of Fairlead's, and a message that mentions what helps."""
    assert (failure["code"], failure.get("domain"), failure.get("reason")) == (code, "fairlead", reason), failure
    for word in mentioned:
        assert word in failure["message"]


def test_unary(play: Play) -> None:
    assert play("unary") == {"value": "hello!", "content_type": "application/json", "by_default": "called"}


def test_what_a_handles_options_can_say(play: Play) -> None:
    observed = play("options")
    accepted = observed.pop("accepted")
    assert accepted["content_type"] == "application/msgpack"
    assert ormsgpack.unpackb(base64.b64decode(accepted["data"])) == "x"
    assert observed == {
        "described": {"request_id": "from-the-field", "model_id": "model-1"},
        "echoed": "from-the-field",
        "described_by_metadata": {"request_id": "from-metadata", "model_id": ""},
        "echoed_from_metadata": "from-metadata",
        "generated": True,
        "session_replicas": 1,
    }


def test_server_stream(play: Play) -> None:
    observed = play("stream")
    assert observed["values"] == [0, 1, 2, 3, 4]
    assert observed["before_failure"] == [0, 1]
    assert_failed(observed["failure"], "INTERNAL", "USER_EXCEPTION", "enough")


def test_bidi(play: Play) -> None:
    assert play("bidi") == {"replies": [">a", ">b", ">c"], "rest": ["bye"], "total": [6]}


def test_broadcast(play: Play) -> None:
    observed = play("broadcast")
    ids = observed["replica_ids"]
    assert len(ids) == REPLICAS
    assert observed["values"] == {replica: replica for replica in ids}
    assert observed["codes"] == {replica: "INTERNAL" if replica == ids[0] else "OK" for replica in ids}
    assert_failed(observed["failure"], "INTERNAL", "USER_EXCEPTION", ids[0])


def test_cancel_reaches_the_method(play: Play) -> None:
    cancelled = {"code": "CANCELLED", "noticed": True}
    assert play("cancel") == {"unary": cancelled, "stream": cancelled}


def test_deadline_reaches_the_method(play: Play) -> None:
    assert play("deadline") == {"code": "DEADLINE_EXCEEDED", "noticed": True}


def test_error_details(play: Play, canary: Path) -> None:
    observed = play("errors")
    boom = observed.pop("user_exception")
    assert_failed(boom, "INTERNAL", "USER_EXCEPTION", "boom")
    assert boom["metadata"]["exception_type"] == "builtins.ValueError"
    expected: dict[str, tuple[str, ...]] = {
        "unknown_application": ("NOT_FOUND", "APPLICATION_NOT_FOUND", "nowhere", "polyglot"),
        "unknown_deployment": ("NOT_FOUND", "DEPLOYMENT_NOT_FOUND", "Nobody", "Polyglot"),
        "unknown_method": ("NOT_FOUND", "METHOD_NOT_FOUND", "nothing", "echo", "whoami"),
        "cloudpickle": ("PERMISSION_DENIED", "UNTRUSTED_SERIALIZATION", "cloudpickle", "msgpack"),
        "pickle": ("PERMISSION_DENIED", "UNTRUSTED_SERIALIZATION", "pickle", "msgpack"),
        "accept_pickle": ("PERMISSION_DENIED", "UNTRUSTED_SERIALIZATION", "pickle", "msgpack"),
        "unknown_media_type": ("INVALID_ARGUMENT", "UNKNOWN_SERIALIZATION", "text/plain", "application/json"),
        "undecodable": ("INVALID_ARGUMENT", "INVALID_ARGUMENTS"),
        "wrong_arity": ("INVALID_ARGUMENT", "USER_EXCEPTION", "TypeError", "echo"),
        "unserializable": ("INTERNAL", "RESULT_NOT_SERIALIZABLE", "object"),
        "streaming_method": ("INVALID_ARGUMENT", "CARDINALITY_MISMATCH", "count"),
        "unary_method": ("INVALID_ARGUMENT", "CARDINALITY_MISMATCH", "echo"),
    }
    assert observed.keys() == expected.keys()
    for name, (code, reason, *mentioned) in expected.items():
        assert_failed(observed[name], code, reason, *mentioned)
    assert not canary.exists()


def test_session_of_frames(play: Play) -> None:
    calls = play("session")["calls"]
    assert calls["1"] == {"items": [], "value": "one"}
    assert calls["2"] == {"items": [], "value": "two"}
    assert calls["3"] == {"count": 3000, "in_order": True}, "three times the credit of a call"
    assert calls["4"] == {"items": [">a", ">b", "bye"]}
    assert_failed(calls["5"]["failure"], "INTERNAL", "USER_EXCEPTION", "boom")
    assert_failed(calls["6"]["failure"], "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    assert_failed(calls["7"]["failure"], "CANCELLED", "CANCELLED")
