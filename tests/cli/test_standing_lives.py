"""Standing instances, by what is typed: how they start, how they end, and what is in their way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess

import psutil
import pytest

from tests.certificates import make_certificates
from tests.cli.typed import COUNTER, OTHER, Typed, until
from tests.typist import PATIENCE_S, PROGRAM, ROOT


def test_sigterm_keeps_what_was_deployed(fresh: Typed) -> None:
    fresh.well("start", "--http-port", "0", "--grpc-port", "0")
    fresh.well("deploy", fresh.file(COUNTER))
    os.kill(fresh.value("status", "--json")["controller"]["pid"], signal.SIGTERM)
    until(lambda: fresh.processes() == [])
    assert "no instance runs" in fresh.refusal("status")
    fresh.well("start")
    until(lambda: fresh("status").returncode == 0)
    assert fresh.well("call", "counter", "--json", "[1]").strip() == "2"
    fresh.well("shutdown", "--yes")
    fresh.well("start", "--http-port", "0", "--grpc-port", "0")
    assert fresh.value("status", "--json")["applications"] == {}


def test_what_a_killed_controller_has_left_can_be_ended(fresh: Typed) -> None:
    fresh.well("start", "--http-port", "0", "--grpc-port", "0")
    fresh.well("deploy", fresh.file(COUNTER))
    os.kill(fresh.value("status", "--json")["controller"]["pid"], signal.SIGKILL)
    assert len(fresh.processes()) >= 2
    fresh.well("shutdown", "--yes")
    assert fresh.processes() == []
    assert "no instance runs" in fresh.refusal("status")


def test_an_instance_that_comes_back_says_that_its_ports_speak_tls(fresh: Typed) -> None:
    pki = make_certificates(fresh.files)
    tls = ("--tls-cert", str(pki / "server.pem"), "--tls-key", str(pki / "server.key"))
    fresh.well("start", "--http-port", "0", "--grpc-port", "0", *tls)
    os.kill(fresh.value("status", "--json")["controller"]["pid"], signal.SIGKILL)
    until(lambda: "has no controller" in fresh("status").stderr)
    said = fresh("start").stderr
    assert "HTTP  https://127.0.0.1:" in said
    assert "gRPC  https://127.0.0.1:" in said
    serving = subprocess.Popen(
        [PROGRAM, "run", COUNTER["import_path"]], cwd=ROOT, env=fresh.environment, stderr=subprocess.PIPE, text=True
    )
    assert serving.stderr is not None
    assert "https://127.0.0.1:" in next(line for line in serving.stderr if "HTTP " in line)
    serving.send_signal(signal.SIGTERM)
    serving.communicate(timeout=PATIENCE_S)


def test_without_an_instance(fresh: Typed) -> None:
    for command in (["status"], ["config"], ["delete", "x"], ["call", "x"], ["shutdown", "-y"], ["scale", "a/b", "1"]):
        assert "no instance runs; `fairlead start` starts one" in fresh.refusal(*command)
    (fresh.state / "standing").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(fresh.state / "standing" / "controller.sock"))
    assert "no instance runs" in fresh.refusal("status")
    fresh.well("start", "--http-port", "0", "--grpc-port", "0")
    fresh.well("status")


def test_in_the_foreground_it_is_the_controller_itself(fresh: Typed) -> None:
    file = fresh.file(COUNTER, http_options={"port": 0}, grpc_options={"port": 0})
    serving = subprocess.Popen([PROGRAM, "start", "--foreground", "--config", file], env=fresh.environment)
    until(lambda: fresh("status").returncode == 0)
    assert fresh.value("status", "--json")["controller"]["pid"] == serving.pid
    fresh.well("deploy", file)
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(PATIENCE_S) == 0
    assert fresh.processes() == []


def test_ports_in_use_are_one_line(fresh: Typed) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = f"cannot listen on 127.0.0.1:{port}: Address already in use"
        for command in (
            ["start"],
            ["run", "tests.cli.standing_app:app"],
            ["run", "tests.cli.standing_app:app", "--gateways", "2"],
        ):
            assert said in fresh.refusal(*command, "--http-port", port, "--grpc-port", "0")
        assert said in fresh.refusal("start", "--grpc-port", port, "--http-port", "0")
    assert fresh.processes() == []


def test_a_state_directory_that_cannot_be_written_to(fresh: Typed) -> None:
    (fresh.files / "file").write_text("")
    for state in ("/proc/no", str(fresh.files / "file")):
        line = fresh.refusal("start", "--http-port", "0", FAIRLEAD_STATE_DIR=state)
        assert state in line
    (fresh.state / "standing").mkdir()
    (fresh.state / "standing" / "state.db").write_text("this is no database, and it was long enough " * 40)
    assert "move it away" in fresh.refusal("start", "--http-port", "0", "--grpc-port", "0")


def test_a_full_disk_refuses_every_change_and_changes_nothing(fresh: Typed) -> None:
    fresh.well("start", "--http-port", "0", "--grpc-port", "0")
    fresh.well("deploy", fresh.file(COUNTER, OTHER))
    pid = fresh.value("status", "--json")["controller"]["pid"]
    # What a full disk does to the controller: it may write no file beyond the size that its state has.
    size = (fresh.state / "standing" / "state.db-wal").stat().st_size
    controller, unlimited = psutil.Process(pid), psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE)
    controller.rlimit(psutil.RLIMIT_FSIZE, (size, unlimited[1]))
    before = fresh.value("status", "--json")
    twice = {**COUNTER, "deployments": [{"name": "Counter", "num_replicas": 2}]}
    half = ["traffic", "counter", "Counter=50", "other=50"]
    for command in (
        ["deploy", fresh.file(twice, OTHER)],
        half,
        ["shutdown", "--yes"],
    ):
        line = fresh.refusal(*command)
        assert "Nothing was changed: the state in" in line
        assert "free some space on that disk and try again" in line
    assert fresh.value("status", "--json") == before
    controller.rlimit(psutil.RLIMIT_FSIZE, unlimited)
    fresh.well(*half)
    assert "calls to counter/Counter go to counter/Counter 50 %, other 50 %" in fresh.well("status")


def test_a_file_can_be_served_until_ctrl_c(fresh: Typed) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    file = fresh.file(COUNTER, http_options={"host": "nowhere.invalid"}, grpc_options={"port": 0}, gateways=2)
    options = ("--http-host", "127.0.0.1", "--http-port", str(port))  # they count, not the file's
    serving = subprocess.Popen(
        [PROGRAM, "run", file, *options], cwd=ROOT, env=fresh.environment, stderr=subprocess.PIPE, text=True
    )
    assert serving.stderr is not None
    assert any("counter is running" in line for line in serving.stderr)
    assert fresh.well("call", "counter", "--json", "[1]").strip() == "2"
    gateways = fresh.value("status", "--json")["gateways"]
    assert [one["http"] for one in gateways] == [f"127.0.0.1:{port}"] * 2
    serving.send_signal(signal.SIGINT)
    serving.communicate(timeout=PATIENCE_S)
    assert serving.returncode == 0
    assert fresh.processes() == []


def test_the_examples_of_help_work(fresh: Typed) -> None:
    pytest.importorskip("sklearn")
    names = ("start", "deploy", "status", "call", "scale", "config", "logs", "traffic", "delete", "shutdown")
    for name in names:
        shown = " ".join(fresh.well(name, "--help").split())
        example = shown.partition("Example: fairlead ")[2].rstrip()
        assert example.split()[0] == name
        arguments = ["0" if part in ("8000", "9000") else part for part in example.split()]
        said = fresh.really(*arguments)
        if name == "call":
            assert json.loads(said)["digit"] == 7
