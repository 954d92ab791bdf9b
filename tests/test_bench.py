"""The parts of the benchmark that judge: bounds, medians, and what load generators print."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from bench import environments, load_tools, report, schema
from bench.environments import Environment
from bench.foreign import ForeignServer, free_port
from bench.others import envoy
from bench.result import Row, Target
from bench.side import SideError
from bench.sides import Sides
from bench.unavailable import UnavailableError

H2LOAD = """\
finished in 3.00s, 5498.00 req/s, 1.02MB/s
requests: 16494 total, 16526 started, 16494 done, 16494 succeeded, {failed} failed, 0 errored, 0 timeout
traffic: 3.06MB (3207280) total, 1.10MB (1150000) headers (space savings 94%), 1.65MB ({data}) data
"""

WRK = """\
Running 3s test @ http://127.0.0.1:8000/
  1 threads and 32 connections
  12038 requests in 3.02s, 2.10MB read
Requests/sec:   3979.96
Transfer/sec:    712.65KB
"""

SERVER = """\
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    asked = 0

    def do_POST(self):
        Handler.asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(503 if Handler.asked == 1 else 200)
        self.end_headers()

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_each_turn_has_a_ratio() -> None:
    row = Row(title="a", unit="/s", reference_name="b", fairlead=[800.0, 400.0, 400.0], reference=[400.0, 100.0, 200.0])
    assert row.ratios == [2.0, 4.0, 2.0]
    assert row.ratio == 2.0
    row.reference = [200.0]
    assert row.ratios == [4.0, 2.0, 2.0]
    row.reference = []
    assert row.ratios == []
    assert row.ratio is None


def test_ratios_and_values_are_judged_by_their_medians() -> None:
    row = Row(title="a", unit="/s", reference_name="b", target=Target(text="≥ 4×", at_least_ratio=4.0))
    assert row.reached is None
    row.fairlead, row.reference = [400.0, 1.0, 500.0], [100.0, 90.0, 110.0]
    assert (row.value, row.reference_value, row.ratio, row.reached) == (400.0, 100.0, 4.0, True)
    row.fairlead = [399.0]
    assert row.reached is False


@pytest.mark.parametrize(("value", "reached"), [(1.5, True), (1.6, False), (None, None)])
def test_bounds_without_a_reference(value: float | None, reached: bool | None) -> None:
    assert Target(text="≤ 1.5 s", at_most=1.5).reached(value, None) is reached


def test_a_side_that_cannot_be_measured_leaves_the_other_one(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> float:
        raise UnavailableError("needs wrk; on Debian and Ubuntu: apt install wrk")

    with Sides(seconds=0.1, repeats=3) as sides:
        row = sides.sample(Row(title="a", unit="/s", reference_name="b"), fairlead=lambda: 2.0, reference=broken)
    assert (row.fairlead, row.reference) == ([2.0, 2.0, 2.0], [])
    assert "apt install wrk" in row.note
    assert "not measured" in capsys.readouterr().out


def test_the_table_and_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    row = Row(title="calls", unit="/s", reference_name="bare", target=Target(text="≥ 4×", at_least_ratio=4.0))
    row.fairlead, row.reference, row.note = [8000.0], [1000.0], "a note"
    printed = report.table([row])
    assert "8,000 /s" in printed
    assert "8.00×" in printed
    assert "reached" in printed
    assert "calls: a note" in printed
    kept = json.loads(report.keep([row], seconds=1.0, repeats=1, load=0.0).read_text())
    assert kept["rows"][0]["ratio"] == 8.0
    assert kept["rows"][0]["reached"] is True


@pytest.mark.parametrize(("failed", "data", "good"), [(0, 1731870, True), (1, 1731870, False), (0, 0, False)])
def test_h2load_counts_only_answers_with_data(
    failed: int, data: int, good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_tools, "_run", lambda command, seconds: H2LOAD.format(failed=failed, data=data))
    if good:
        assert load_tools.h2load("http://x", tmp_path, least_answer=100, seconds=1) == 5498.0
    else:
        with pytest.raises(SideError):
            load_tools.h2load("http://x", tmp_path, least_answer=100, seconds=1)


def test_a_missing_load_tool_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="apt install nghttp2-client"):
        load_tools.h2load("http://x", tmp_path, least_answer=1, seconds=1)


def test_an_environment_that_cannot_be_made_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "CACHE", tmp_path)
    broken = Environment(name="Nothing", requirements=(f"{tmp_path}/no-such-package.whl",))
    with pytest.raises(UnavailableError, match=r"Nothing cannot be installed: .*no-such-package"):
        broken.program("python")
    assert not (tmp_path / "Nothing" / "installed").exists()


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "CACHE", tmp_path)
    made: list[Environment] = []
    monkeypatch.setattr(
        Environment, "_make", lambda self: ((self.folder / "bin").mkdir(parents=True), made.append(self))
    )
    environment = Environment(name="Empty", requirements=("something",))
    for _ in range(2):
        with pytest.raises(UnavailableError, match="has no program 'serve'"):
            environment.program("serve")
    assert made == [environment]


def test_a_foreign_server_that_ends_shows_what_it_said() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such model')"]
    with pytest.raises(SideError, match=r"Thing ended\n    no such model"):
        ForeignServer("Thing", command, f"http://127.0.0.1:{free_port()}/", b"{}")


def test_a_foreign_server_is_ready_when_it_answers(tmp_path: Path) -> None:
    program = tmp_path / "server.py"
    program.write_text(SERVER)
    port = free_port()
    with ForeignServer(
        "Thing", [sys.executable, str(program), str(port)], f"http://127.0.0.1:{port}/", b"{}"
    ) as server:
        assert server.cpu_s() > 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_wrk_is_read_for_rate_and_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_tools, "_run", lambda command, seconds: WRK)
    assert load_tools.wrk("http://x", tmp_path, seconds=3) == (3979.96, 12038.0)
    monkeypatch.setattr(load_tools, "_run", lambda command, seconds: WRK + "  Non-2xx or 3xx responses: 12038\n")
    with pytest.raises(SideError, match="did not answer well"):
        load_tools.wrk("http://x", tmp_path, seconds=3)


def test_the_typed_service_compiles(tmp_path: Path) -> None:
    schema.compile_into(tmp_path)
    files = FileDescriptorSet.FromString((tmp_path / schema.DESCRIPTORS).read_bytes())
    services = [f"{file.package}.{service.name}" for file in files.file for service in file.service]
    assert services == [schema.SERVICE]


def test_envoys_configuration_names_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "envoy.json"
    envoy.write_configuration(
        path, port=1234, upstream="127.0.0.1:5678", descriptors=tmp_path / "echo.binpb", service=schema.SERVICE
    )
    written = path.read_text()
    assert isinstance(json.loads(written), dict)
    assert all(part in written for part in ('"port_value": 1234', '"port_value": 5678', schema.SERVICE, "echo.binpb"))


def test_the_matrix_model_says_the_same_in_batches_of_any_size() -> None:
    from bench.matrix_model import MatrixModel

    model = MatrixModel()
    numbers = [3, 1, 4, 1, 5, 300]
    assert model.classify(numbers) == [model.classify([number])[0] for number in numbers]


def test_popularity_by_zipf() -> None:
    from bench import model_zoo

    weights = model_zoo.weights()
    assert len(weights) == model_zoo.MODELS
    assert sum(weights) == pytest.approx(1)
    assert weights[0] == pytest.approx(10 * weights[9])
