"""One trace from the caller's header through gateway and replica to a child call, by the SDK's console exporter."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"

PROGRAM = f"""
    import urllib.request
    import grpc
    from fairlead import serve
    from fairlead.serve import api
    from fairlead.v1 import serving_pb2, serving_pb2_grpc
    from google.api import httpbody_pb2

    @serve.deployment
    class Child:
        def work(self, x):
            return x + 1

    @serve.deployment
    class Parent:
        def __init__(self, child):
            self.child = child
        async def __call__(self, request):
            return await self.child.work.remote(1)
        def fail(self):
            raise ValueError("no")

    serve.start(http_options={{"port": 0}}, grpc_options={{"port": 0}})
    serve.run(Parent.bind(Child.bind()))
    gateway = api.instance_status().gateways[0]
    headers = {{"traceparent": "00-{TRACE}-{PARENT}-01"}}
    request = urllib.request.Request(f"http://{{gateway.http_address}}/", headers=headers)
    assert urllib.request.urlopen(request).read() == b"2"
    with grpc.insecure_channel(gateway.grpc_address) as channel:
        stub = serving_pb2_grpc.ServingServiceStub(channel)
        target = serving_pb2.Target(application="default", method="fail")
        payload = httpbody_pb2.HttpBody(content_type="application/json", data=b"[[], {{}}]")
        try:
            stub.Call(serving_pb2.CallRequest(target=target, payload=payload), metadata=tuple(headers.items()))
        except grpc.RpcError:
            pass
    serve.shutdown()
"""


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the programs of the instance have written, each to its own output, which the controller collects."""
    done = run(tmp_path_factory.mktemp("state"), OTEL_TRACES_EXPORTER="console")
    outputs: dict[str, list[str]] = {}
    for line in done.stderr.splitlines():
        if line.startswith("("):
            name, _, text = line[1:].partition(") ")
            outputs.setdefault(name, []).append(text)
    found = []
    for lines in outputs.values():
        text = "\n".join(lines)
        decoder = json.JSONDecoder()
        start = text.find("{\n")
        while start >= 0:
            span, end = decoder.raw_decode(text, start)
            found.append(span)
            start = text.find("{\n", end)
    return found


EXPORTER = """
import pathlib
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

def exporter():
    spans = open(pathlib.Path(__file__).with_name("spans"), "a", buffering=1)
    return [SimpleSpanProcessor(ConsoleSpanExporter(out=spans, formatter=lambda span: span.name + "\\n"))]
"""


@pytest.mark.parametrize(("ratio", "kept"), [(1, True), (0, False)])
def test_a_tracing_config_decides(ratio: int, kept: bool, tmp_path: Path) -> None:
    """By an exporter of the program's own, of traces that no caller has begun."""
    (tmp_path / "own_exporter.py").write_text(EXPORTER)
    tracing = f'tracing_config={{"exporter_import_path": "own_exporter:exporter", "sampling_ratio": {ratio}}}'
    program = PROGRAM.replace("serve.start(", f"serve.start({tracing}, ").replace('"traceparent":', '"x-other":')
    assert program.count(tracing) == 1
    run(tmp_path, program, PYTHONPATH=str(tmp_path), OTEL_TRACES_EXPORTER="nonesuch")
    names = (tmp_path / "spans").read_text().split() if (tmp_path / "spans").exists() else []
    assert (names.count("default/Child.work") == 2) is kept
    assert bool(names) is kept


def run(directory: Path, program: str = PROGRAM, **variables: str) -> subprocess.CompletedProcess[str]:
    cleared = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRLEAD_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**cleared, **variables, "FAIRLEAD_STATE_DIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def named(spans: list[dict[str, Any]], name: str, service: str) -> dict[str, Any]:
    (found,) = (
        span
        for span in spans
        if span["name"] == name and span["resource"]["attributes"]["service.name"].startswith(service)
    )
    return found


def test_one_trace_from_the_client_to_the_child(spans: list[dict[str, Any]]) -> None:
    first = named(spans, "default/(ingress).__call__", "fairlead-gateway")
    parent = named(spans, "default/(ingress).__call__", "fairlead-replica default#Parent")
    between = named(spans, "default/Child.work", "fairlead-gateway")
    child = named(spans, "default/Child.work", "fairlead-replica default#Child")
    chain = [first, parent, between, child]
    assert {span["context"]["trace_id"] for span in chain} == {f"0x{TRACE}"}
    assert first["parent_id"] == f"0x{PARENT}"
    for above, below in itertools.pairwise(chain):
        assert below["parent_id"] == above["context"]["span_id"]
    assert len({span["attributes"]["fairlead.request_id"] for span in chain}) == 1
    assert {span["status"]["status_code"] for span in chain} == {"UNSET"}


def test_failures_are_marked(spans: list[dict[str, Any]]) -> None:
    for service in ("fairlead-gateway", "fairlead-replica default#Parent"):
        span = named(spans, "default/(ingress).fail", service)
        assert span["context"]["trace_id"] == f"0x{TRACE}"
        assert span["status"]["status_code"] == "ERROR"


def test_an_exporter_that_is_not_installed_costs_the_traces_alone(tmp_path: Path) -> None:
    said = run(tmp_path, OTEL_TRACES_EXPORTER="nonesuch").stderr
    assert "no OpenTelemetry exporter 'nonesuch' is installed" in said
