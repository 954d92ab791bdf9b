"""TLS, tokens and client certificates: a real instance, and programs that reach it over TCP."""

from __future__ import annotations

import json
import os
import pickle
import signal
import ssl
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest

from fairlead import serve
from fairlead.serve import api, connection
from fairlead.v1 import control_pb2, control_pb2_grpc, serving_pb2
from tests.certificates import PASSWORD, make_certificates
from tests.e2e.peers import body, failure, start
from tests.e2e.trust_app import Guarded
from tests.typist import Typist

TOKEN = "correct-horse-battery-staple"
PICKLE = "application/vnd.fairlead.pickle"
Run = Callable[..., list[Any]]

PROGRAM = """
import json
from fairlead import serve
told = []
try:
    handle = serve.get_deployment_handle("Guarded", "guarded")
    told.append(sorted(handle.echo.remote({1, 2}).result(timeout_s=30)))
    told.append(list(handle.options(stream=True).stream.remote((1j,)))[0] == (1j,))
    told.append([sorted(each) for each in handle.broadcast("echo", {3}).results(timeout_s=30)])
    try:
        handle.fail.remote().result(timeout_s=30)
    except ValueError as error:
        told.append("trust_app.py" in str(error.__cause__))
except Exception as error:
    told.append([type(error).__name__, str(error)])
print(json.dumps(told))
"""
WORKS = [[1, 2], True, [[3]], True]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def run(pki: Path) -> Run:
    """Runs a program with variables; what it told. By default one that uses a handle with the default serialization."""

    def run(program: str = PROGRAM, **variables: str) -> list[Any]:
        cleared = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
        given = {f"FAIRLEAD_{name}": value for name, value in variables.items()}
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            env={**cleared, **given},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told: list[Any] = json.loads(done.stdout)
        return told

    return run


class Instances:
    """Starts an instance of this process's, with a replica of ``Guarded``."""

    def __init__(self, pki: Path) -> None:
        self.files = {"ssl_certfile": str(pki / "server.pem"), "ssl_keyfile": str(pki / "server.key")}

    def start(self, **options: Any) -> control_pb2.GatewayStatus:
        serve.start(http_options={"port": 0, **options}, grpc_options={"port": 0, **options})
        serve.run(Guarded.bind(), name="guarded")
        return api.instance_status().gateways[0]


@pytest.fixture(scope="class")
def instances(pki: Path, request: pytest.FixtureRequest) -> Iterator[Instances]:
    token = getattr(request.cls, "token", "")
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_STATE_DIR", name)
        patch.setenv("FAIRLEAD_TOKEN", token)
        patch.delenv("FAIRLEAD_ADDRESS", raising=False)
        yield Instances(pki)
        serve.shutdown()


@pytest.fixture
def typed(typist: Typist, pki: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Types a command with variables."""
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}

    def typed(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return typist(*arguments, env=cleared | {f"FAIRLEAD_{name}": value for name, value in variables.items()})

    return typed


Typed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="class")
def gateway(instances: Instances, request: pytest.FixtureRequest) -> control_pb2.GatewayStatus:
    """One with TLS; whether for other machines, too, says the class."""
    return instances.start(host=getattr(request.cls, "host", "127.0.0.1"), **instances.files)


class TestTokenOverTls:
    token = TOKEN
    host = "0.0.0.0"

    @pytest.fixture
    def address(self, gateway: control_pb2.GatewayStatus) -> str:
        return f"https://localhost:{gateway.grpc_address.rpartition(':')[2]}"

    def test_handles_work_with_the_default_serialization(self, address: str, run: Run, pki: Path) -> None:
        assert run(ADDRESS=address, TOKEN=TOKEN, TLS_CA=str(pki / "ca.pem")) == WORKS

    @pytest.mark.parametrize("used", [False, True])
    def test_in_forked_children(self, used: bool, address: str, run: Run, pki: Path) -> None:
        """A handle made before works; one that was used says what it takes, and hangs nobody."""
        program = f"""
            import json, os, signal
            from fairlead import serve
            handle = serve.get_deployment_handle("Guarded", "guarded")
            if {used}:
                handle.echo.remote(0).result(timeout_s=30)
            reader, writer = os.pipe()
            if not (child := os.fork()):
                signal.alarm(50)
                try:
                    told = sorted(handle.echo.remote({{1, 2}}).result(timeout_s=30))
                except Exception as error:
                    told = [type(error).__name__, str(error)]
                os.write(writer, json.dumps(told).encode())
                os._exit(0)
            os.close(writer)
            told = [os.read(reader, 1 << 16).decode(), handle.echo.remote("parent").result(timeout_s=30)]
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(json.dumps([*told, -ended if ended < 0 else 0]))
        """
        told, parent, killed = run(program, ADDRESS=address, TOKEN=TOKEN, TLS_CA=str(pki / "ca.pem"))
        assert parent == "parent"
        assert killed != signal.SIGALRM  # it would have hung
        if used and killed:  # gRPC's own fork handlers may end a child of a program in the midst of using it
            return
        assert json.loads(told) == (["FairleadError", connection.FORKED] if used else [1, 2])

    @pytest.mark.parametrize("token", ["wrong", TOKEN[:-1], f"{TOKEN}x"])
    def test_with_a_wrong_token(self, token: str, address: str, run: Run, pki: Path) -> None:
        ((name, message),) = run(ADDRESS=address, TOKEN=token, TLS_CA=str(pki / "ca.pem"))
        assert name == "UnauthenticatedError"
        assert "authorization: Bearer" in message
        assert TOKEN not in message

    def test_without_a_token(self, address: str, run: Run, pki: Path) -> None:
        ((name, _),) = run(ADDRESS=address, TLS_CA=str(pki / "ca.pem"))
        assert name == "UnauthenticatedError"

    def test_a_file_that_is_not_there(self, address: str, run: Run) -> None:
        ((name, message),) = run(ADDRESS=address, TOKEN=TOKEN, TLS_CA="/nowhere")
        assert (name, message) == ("FairleadError", "cannot read /nowhere: No such file or directory")

    def test_stubs(self, address: str, pki: Path) -> None:
        credentials = grpc.ssl_channel_credentials((pki / "ca.pem").read_bytes())
        target = serving_pb2.Target(application="guarded", method="echo")
        with grpc.secure_channel(address.removeprefix("https://"), credentials) as channel:
            for metadata in ((), (("authorization", "Bearer wrong"),)):
                code, _, info = failure(start(channel, "Call", target, body(1), metadata=metadata))
                assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
            pickled = body(content_type=PICKLE, data=pickle.dumps(((1j,), {})))
            (answer,) = start(channel, "Call", target, pickled, metadata=(("authorization", f"Bearer {TOKEN}"),))
        assert pickle.loads(answer.payload.data) == 1j

    def test_deploying_from_elsewhere(self, address: str, run: Run, pki: Path) -> None:
        program = """
            import json
            from fairlead import serve

            @serve.deployment
            class Remote:
                def __call__(self, x):
                    return x + 1

            handle = serve.run(Remote.bind(), name="remote", route_prefix=None)
            told = [handle.remote(1).result(timeout_s=30), sorted(serve.status().applications)]
            serve.delete("remote")
            told.append(sorted(serve.status().applications))
            try:
                serve.run(serve.deployment(lambda: None).bind(), name="guarded", route_prefix="no")
            except ValueError as error:
                told.append("route_prefix" in str(error))
            print(json.dumps(told))
        """
        told = run(program, ADDRESS=address, TOKEN=TOKEN, TLS_CA=str(pki / "ca.pem"))
        assert told == [2, ["guarded", "remote"], ["guarded"], True]

    def test_who_proves_nothing_neither_deploys_nor_looks(self, address: str, pki: Path) -> None:
        credentials = grpc.ssl_channel_credentials((pki / "ca.pem").read_bytes())
        with grpc.secure_channel(address.removeprefix("https://"), credentials) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                control_pb2_grpc.ControlServiceStub(channel).GetStatus(control_pb2.GetStatusRequest(), timeout=60)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED

    def test_http(self, gateway: control_pb2.GatewayStatus, pki: Path) -> None:
        url = f"https://localhost:{gateway.http_address.rpartition(':')[2]}"
        context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
        with httpx.Client(base_url=url, verify=context, trust_env=False) as client:
            assert client.get("/").status_code == 401
            assert client.get("/", headers={"authorization": "Bearer wrong"}).status_code == 401
            assert client.get("/", headers={"authorization": f"Bearer {TOKEN}"}).text == "0 bytes"
            assert client.get("/-/healthz").status_code == 200

    def test_calls_from_the_command_line(self, address: str, typed: Typed, pki: Path) -> None:
        own = {"ADDRESS": address, "TLS_CA": str(pki / "ca.pem")}
        assert json.loads(
            typed("call", "guarded/Guarded.echo", "--json", '{"value": [1, "é"]}', TOKEN=TOKEN, **own).stdout
        ) == [
            1,
            "é",
        ]
        calling = ("call", "guarded/Guarded.count", "--stream", "--json", "[3]")
        assert typed(*calling, TOKEN=TOKEN, **own).stdout == "0\n1\n2\n"
        late = typed("call", "guarded/Guarded.fail_late", "--stream", TOKEN=TOKEN, **own)
        assert (late.returncode, late.stdout) == (1, "1\n")
        assert late.stderr == "fairlead: guarded/Guarded.fail_late raised ValueError: boom\n"
        assert json.loads(typed("status", "--json", TOKEN=TOKEN, **own).stdout)["applications"].keys() == {"guarded"}
        for token in ({}, {"TOKEN": "wrong"}):
            refused = typed(*calling, **token, **own)
            assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (1, "", 1)
            assert "set FAIRLEAD_TOKEN" in refused.stderr

    def test_the_token_is_on_no_command_line(self, gateway: control_pb2.GatewayStatus) -> None:
        children = psutil.Process().children(recursive=True)
        assert len(children) >= 3
        assert not any(TOKEN in argument for child in children for argument in child.cmdline())

    def test_the_owner_needs_none(self, gateway: control_pb2.GatewayStatus) -> None:
        assert serve.get_app_handle("guarded").echo.remote({1}).result(timeout_s=30) == {1}


class TestTokenInPlainText:
    token = TOKEN

    def test_nothing_is_deployed_over_it(self, instances: Instances, run: Run) -> None:
        address = instances.start().grpc_address
        program = """
            import json
            from fairlead import serve
            try:
                serve.status()
            except Exception as error:
                print(json.dumps([type(error).__name__, str(error)]))
        """
        (name, message) = run(program, ADDRESS=address, TOKEN=TOKEN)
        assert name == "FairleadError"
        assert "takes nothing but calls" in message
        with grpc.insecure_channel(address) as channel:
            stub = control_pb2_grpc.ControlServiceStub(channel)
            request = control_pb2.DeployRequest()
            with pytest.raises(grpc.RpcError) as refused:
                stub.Deploy(request, timeout=60, metadata=(("authorization", f"Bearer {TOKEN}"),))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "TLS with a token" in refused.value.details()

    def test_it_lets_in_and_proves_nothing(self, instances: Instances, run: Run) -> None:
        address = instances.start().grpc_address
        ((name, message),) = run(ADDRESS=address, TOKEN=TOKEN)
        assert name == "UntrustedSerializationError"
        assert "msgpack, orjson" in message
        safe = """
            import json
            from fairlead import serve
            handle = serve.get_deployment_handle("Guarded", "guarded")
            chosen = handle.options(request_serialization="orjson", response_serialization="orjson")
            try:
                print(json.dumps([chosen.echo.remote([1]).result(timeout_s=30)]))
            except Exception as error:
                print(json.dumps([type(error).__name__]))
        """
        assert run(safe, ADDRESS=address, TOKEN=TOKEN) == [[1]]
        assert run(safe, ADDRESS=address, TOKEN="wrong") == ["UnauthenticatedError"]
        assert run(safe, ADDRESS=address) == ["UnauthenticatedError"]


class TestClientCertificates:
    def test_they_authenticate(self, instances: Instances, run: Run, typed: Typed, pki: Path) -> None:
        gateway = instances.start(host="0.0.0.0", ssl_ca_certs=str(pki / "ca.pem"), **instances.files)
        address = f"https://127.0.0.1:{gateway.grpc_address.rpartition(':')[2]}"
        own = {"TLS_CERT": str(pki / "client.pem"), "TLS_KEY": str(pki / "client.key")}
        assert run(ADDRESS=address, TLS_CA=str(pki / "ca.pem"), **own) == WORKS
        where = {"ADDRESS": address, "TLS_CA": str(pki / "ca.pem")}
        calling = ("call", "guarded/Guarded.count", "--stream", "--json", '{"to": 3}')
        assert typed(*calling, **where, **own).stdout == "0\n1\n2\n"
        assert typed("call", "guarded/Guarded.echo", "--json", '["x"]', **where, **own).stdout == '"x"\n'
        refused = typed(*calling, "--timeout", "5", **where)
        waiting, error = refused.stderr.splitlines()
        assert (refused.returncode, refused.stdout) == (1, "")
        assert waiting.startswith("cannot reach 127.0.0.1:")
        assert error.startswith("fairlead: the deadline of the call to guarded#Guarded.count passed")


class TestWhoIsThere:
    """A server that cannot prove that it is the right one gets nothing, and one that shows too little no trust."""

    @pytest.fixture
    def address(self, gateway: control_pb2.GatewayStatus) -> str:
        return f"https://{gateway.grpc_address}"

    def test_an_unknown_authority(self, address: str, run: Run, pki: Path) -> None:
        impatient = "from fairlead.serve import connection\nconnection.PATIENCE_S = 0.5\n" + PROGRAM
        ((name, message),) = run(impatient, ADDRESS=address, TOKEN=TOKEN, TLS_CA=str(pki / "other.pem"))
        assert name == "ConnectionLostError"
        assert "CERTIFICATE_VERIFY_FAILED" in message

    def test_a_gateway_that_asks_for_no_token_trusts_nobody(self, address: str, run: Run, pki: Path) -> None:
        ((name, _),) = run(ADDRESS=address, TOKEN=TOKEN, TLS_CA=str(pki / "ca.pem"))
        assert name == "UntrustedSerializationError"


def test_the_command(pki: Path, run: Run, tmp_path: Path) -> None:
    """A handle and curl's request against ``fairlead run``, which is stopped as containers are."""
    files = ("--tls-cert", str(pki / "server.pem"), "--tls-key", str(pki / "server.key"))
    where = ("--http-port", "0", "--grpc-port", "0", "--name", "guarded", "--http-host", "0.0.0.0")
    process = subprocess.Popen(
        [Path(sys.executable).parent / "fairlead", "run", "tests.e2e.trust_app:app", *where, *files],
        env={**os.environ, "FAIRLEAD_TOKEN": TOKEN, "FAIRLEAD_STATE_DIR": str(tmp_path), "COLUMNS": "120"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as said:
        line = ""
        while "HTTP" not in line:
            line = said.readline()
            assert line
        url = f"https://localhost:{line.split()[1].rstrip('/').rpartition(':')[2]}/"
        address = said.readline().split()[1]
        context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert httpx.get(url, verify=context, headers=headers, trust_env=False).text == "0 bytes"
        assert run(ADDRESS=address, TOKEN=TOKEN, TLS_CA=str(pki / "ca.pem")) == WORKS
        process.send_signal(signal.SIGTERM)
        said.read()
    assert process.wait(60) == 0


def test_a_key_with_a_password_for_http(pki: Path, run: Run, tmp_path: Path) -> None:
    program = f"""
        import json, os, psutil
        from fairlead import serve
        from fairlead.serve import api

        @serve.deployment
        def variables():
            return [name for name, value in os.environ.items() if {PASSWORD!r} in value]

        serve.start(
            http_options={{"port": 0, "ssl_certfile": {str(pki / "server.pem")!r},
                          "ssl_keyfile": {str(pki / "encrypted.key")!r}, "ssl_keyfile_password": {PASSWORD!r}}},
            grpc_options={{"port": 0}},
        )
        found = serve.run(variables.bind()).remote().result()
        lines = [line for child in psutil.Process().children(recursive=True) for line in child.cmdline()]
        print(json.dumps([api.instance_status().gateways[0].ready, found, {PASSWORD!r} in " ".join(lines)]))
    """
    assert run(program, STATE_DIR=str(tmp_path)) == [True, [], False]


@pytest.mark.parametrize(("certificate", "key"), [("server.pem", "client.key"), ("nowhere", "server.key")])
def test_certificates_that_cannot_be_used(certificate: str, key: str, pki: Path, run: Run, tmp_path: Path) -> None:
    for protocol in ("http", "grpc"):
        program = f"""
            import json
            from fairlead import serve
            options = {{"http_options": {{"port": 0}}, "grpc_options": {{"port": 0}}}}
            options["{protocol}_options"] |= {{"ssl_certfile": {str(pki / certificate)!r},
                                               "ssl_keyfile": {str(pki / key)!r}}}
            try:
                serve.start(**options)
            except RuntimeError as error:
                print(json.dumps([str(error)]))
        """
        (message,) = run(program, STATE_DIR=str(tmp_path))
        assert message.startswith("Starting Fairlead failed: cannot use the certificates for 127.0.0.1:")
        assert message.endswith("/nowhere'") is (certificate == "nowhere")


@pytest.mark.parametrize(
    ("variables", "options", "why"),
    [
        ({}, {}, "no TLS"),
        ({"TOKEN": TOKEN}, {}, "no TLS"),
        ({}, {"tls": True}, "no authentication"),
    ],
)
def test_other_machines_are_kept_out_otherwise(
    variables: dict[str, str], options: dict[str, bool], why: str, pki: Path, run: Run, tmp_path: Path
) -> None:
    tls = {"ssl_certfile": str(pki / "server.pem"), "ssl_keyfile": str(pki / "server.key")} if options else {}
    program = f"""
        import json
        from fairlead import serve
        try:
            serve.start(http_options={{"port": 0}}, grpc_options={{"port": 0, "host": "0.0.0.0", **{tls!r}}})
        except RuntimeError as error:
            print(json.dumps([str(error)]))
    """
    (message,) = run(program, STATE_DIR=str(tmp_path), **variables)
    assert f"refusing to listen on 0.0.0.0:0: other machines can reach it, and it has {why}" in message
    for name in ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs", "insecure"):
        assert name in message
