"""The HTTP door over real sockets, against a fake router."""

import asyncio
import contextlib
import json
import logging
import ssl

import grpc
import httpx
import pytest

from fairlead.v1 import http_pb2, session_pb2
from fairlead.wire.errors import BackPressureError, DeploymentUnavailableError, ResultNotSerializableError
from fairlead.wire.stream import INITIAL_CREDIT
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.binding import BindError, TcpListener, Tls
from fairlead_gateway.edge.http_door import HttpDoor
from fairlead_gateway.edge.http_limits import HttpLimits
from tests.certificates import PASSWORD, make_certificates
from tests.edge.fake_router import FakeRouter, application


@contextlib.asynccontextmanager
async def served(behave=None, *, applications=None, limits=None, listener=None, root_path=""):
    """A door with an application: ``(client, router, address)``."""
    router = FakeRouter(behave or echo)
    router.deploy(*(applications if applications is not None else [application()]))
    door = HttpDoor(router, listener or TcpListener(), limits=limits, root_path=root_path)
    address = await door.start()
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=60) as client:
        try:
            yield client, router, address
        finally:
            await client.aclose()
            await door.stop(1)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("pki"))


def tls(pki, **changes):
    files = {"certificate_file": str(pki / "server.pem"), "key_file": str(pki / "server.key")}
    return Tls(**{**files, **changes})


def https(address, pki, own=False):
    context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    if own:
        context.load_cert_chain(str(pki / "client.pem"), str(pki / "client.key"))
    return httpx.AsyncClient(base_url=f"https://{address}", verify=context, trust_env=False, timeout=60)


def request_of(call):
    return http_pb2.HttpRequest.FromString(call.payload)


def response(status=200, body=b"", more_headers=(), **headers):
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return http_pb2.HttpResponse(
        status=status,
        headers=[http_pb2.HttpHeader(name=name, value=value) for name, value in [*fields, *more_headers]],
        body=body,
    ).SerializeToString()


def echo(call):
    call.end(None, response(body=request_of(call).body, content_type="text/plain"))


class TestRequest:
    async def test_everything_reaches_the_handler(self):
        async with served(applications=[application("app", route_prefix="/app")]) as (client, router, address):
            answer = await client.post(
                "/app/x%20y/z?a=1&b=%20", content=b"body", headers={"x-own": "value", "x-request-id": "mine"}
            )
        assert (answer.status_code, answer.content) == (200, b"body")
        assert answer.headers["content-length"] == "4"
        assert answer.headers["x-request-id"] == "mine"
        call = router.calls[0]
        assert call.trust is Trust.OWNER
        assert call.header == session_pb2.CallHeader(
            application="app",
            request_serialization=session_pb2.SERIALIZATION_HTTP,
            response_serialization=session_pb2.SERIALIZATION_HTTP,
            stream=True,
            request_id="mine",
            route="/app",
        )
        request = request_of(call)
        assert (request.method, request.scheme, request.http_version) == ("POST", "http", "1.1")
        assert (request.path, request.root_path) == ("/app/x y/z", "/app")
        assert (request.raw_path, request.query_string) == (b"/app/x%20y/z", b"a=1&b=%20")
        assert request.body == b"body"
        assert request.client_host == "127.0.0.1"
        assert f"{request.server_host}:{request.server_port}" == address
        assert (b"x-own", b"value") in [(field.name, field.value) for field in request.headers]

    @pytest.mark.parametrize("root_path", ["/be hind", "/be hind/"])
    async def test_a_prefix_that_a_proxy_removed_is_back(self, root_path):
        applications = [application("app", route_prefix="/app")]
        async with served(applications=applications, root_path=root_path) as (client, router, _):
            assert (await client.get("/app/x%20y")).status_code == 200
            assert (await client.get("/be hind/app/x")).status_code == 404
        request = request_of(router.calls[0])
        assert (request.path, request.root_path) == ("/be hind/app/x y", "/be hind/app")
        assert request.raw_path == b"/be%20hind/app/x%20y"

    @pytest.mark.parametrize(
        "name", ["serve_multiplexed_model_id", "SERVE-MULTIPLEXED-MODEL-ID", "serve-multiplexed_model-id"]
    )
    async def test_fields_for_the_gateway(self, name):
        async with served() as (client, router, _):
            headers = {name: "m1", "x-session-id": "s1", "x-request-timeout-seconds": "2.5", "X-Serve-Shard-Key": "k1"}
            await client.get("/", headers=headers)
        header = router.calls[0].header
        assert (header.multiplexed_model_id, header.session_id, header.timeout_us) == ("m1", "s1", 2_500_000)
        assert header.shard_key == "k1"

    @pytest.mark.parametrize(
        "name", ["serve-multiplexed-model-id", "x-session-id", "x-serve-shard-key", "x-serve-call-method"]
    )
    async def test_names_that_are_too_long_are_refused(self, name):
        async with served() as (client, router, _):
            answer = await client.get("/", headers={name: "m" * 1025})
            assert (answer.status_code, answer.json()["code"]) == (400, grpc.StatusCode.INVALID_ARGUMENT.value[0])
            assert "1025 characters; the limit is 1024" in answer.json()["message"]
            assert (await client.get("/", headers={name: "m" * 1024})).status_code == 200
        assert len(router.calls) == 1

    async def test_names_are_text_as_through_every_other_door(self):
        async with served() as (client, router, _):
            await client.get("/", headers={b"serve_multiplexed_model_id": "größe".encode(), b"x-session-id": b"\xff"})
        header = router.calls[0].header
        assert (header.multiplexed_model_id, header.session_id) == ("größe", "ÿ")

    @pytest.mark.parametrize(("value", "expected"), [("0", 0), ("-1", 0), ("x", 7_000_000), ("nan", 7_000_000)])
    async def test_odd_timeouts(self, value, expected):
        async with served(limits=HttpLimits(request_timeout_s=7)) as (client, router, _):
            await client.get("/", headers={"x-request-timeout-seconds": value})
        assert router.calls[0].header.timeout_us == expected

    @pytest.mark.parametrize("value", ["", "5", "S", "5s", "-5S", "123456789S", "1.5S"])
    async def test_a_malformed_grpc_timeout_is_refused(self, value):
        async with served() as (client, router, _):
            answer = await client.get("/", headers={"grpc-timeout": value, "x-request-id": "mine"})
            assert (answer.status_code, answer.json()["code"]) == (400, grpc.StatusCode.INVALID_ARGUMENT.value[0])
            assert "grpc-timeout" in answer.json()["message"]
            assert answer.headers["x-request-id"] == "mine"
            assert (await client.get("/", headers={"grpc-timeout": "5S"})).status_code == 200
        assert [call.header.timeout_us for call in router.calls] == [5_000_000]

    async def test_request_id_is_made_and_echoed_also_in_place_of_an_unusable_one(self):
        async with served() as (client, _, _):
            assert (await client.get("/")).headers["x-request-id"] == "made-1"
            assert (await client.get("/", headers={"x-request-id": "x" * 300})).headers["x-request-id"] == "made-2"

    async def test_request_id_is_echoed_where_there_is_no_call_too(self):
        async with served(applications=[application("app", route_prefix="/app")]) as (client, _, _):
            for path, status in (("/nowhere", 404), ("/app/%ff", 400)):
                answer = await client.get(path, headers={"x-request-id": "mine"})
                assert (answer.status_code, answer.headers["x-request-id"]) == (status, "mine")
                assert "x-request-id" not in (await client.get(path)).headers

    async def test_body_in_many_pieces(self):
        async def pieces():
            for _ in range(100):
                yield bytes(1000)

        async with served() as (client, router, _):
            answer = await client.post("/", content=pieces())
        assert answer.content == bytes(100_000)
        assert request_of(router.calls[0]).body == bytes(100_000)

    async def test_body_above_the_limit(self):
        async with served(limits=HttpLimits(max_body_bytes=1000)) as (client, router, _):

            async def pieces():
                for _ in range(11):
                    yield bytes(100)

            for content in (bytes(1001), pieces()):
                answer = await client.post("/", content=content)
                assert answer.status_code == 413
                assert answer.json()["code"] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
            assert (await client.post("/", content=bytes(1000))).status_code == 200
        assert len(router.calls) == 1

    async def test_head(self):
        def behave(call):
            call.end(None, response(body=b"", content_length="1234"))

        async with served(behave) as (client, router, _):
            answer = await client.head("/")
            assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "1234")
            assert request_of(router.calls[0]).method == "HEAD"
            assert (await client.head("/-/healthz")).status_code == 200


class TestResponse:
    async def test_status_and_fields_pass(self):
        def behave(call):
            call.end(None, response(418, b"tea", [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")], x_own="v"))

        async with served(behave) as (client, _, _):
            answer = await client.get("/")
        assert (answer.status_code, answer.text, answer.headers["x-own"]) == (418, "tea", "v")
        assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]

    @pytest.mark.parametrize("status", [204, 304])
    async def test_responses_without_a_body(self, status):
        async with served(lambda call: call.end(None, response(status, b"ignored"))) as (client, _, _):
            assert (await client.get("/")).status_code == status
            assert (await client.get("/")).content == b""

    async def test_large_body_in_pieces(self):
        message = response(body=bytes(3_000_000))

        def behave(call):
            for start in range(0, len(message), 100_000):
                call.message(message[start : start + 100_000], more=True)
            call.end(None, b"")

        async with served(behave) as (client, _, _):
            answer = await client.get("/")
        assert answer.content == bytes(3_000_000)
        assert answer.headers["content-length"] == "3000000"

    async def test_stream_comes_as_it_is_made(self):
        steps = asyncio.Queue()

        async def behave(call):
            call.message(response(body=b"first", content_type="text/event-stream"))
            await steps.get()
            call.message(response(0, b"second"))
            await steps.get()
            call.end()

        async with served(behave) as (client, _, _), client.stream("GET", "/") as answer:
            assert answer.headers["transfer-encoding"] == "chunked"
            chunks = answer.aiter_raw()
            assert await anext(chunks) == b"first"
            steps.put_nowait(None)
            assert await anext(chunks) == b"second"
            steps.put_nowait(None)
            assert await anext(chunks, None) is None

    async def test_slow_reader_holds_the_sender(self):
        blocked = asyncio.Event()
        sent = 0

        async def behave(call):
            nonlocal sent
            call.message(response())
            while not call.done:
                if call.credit <= 0:
                    blocked.set()
                await call.stream(response(0, bytes(32 * 1024)))
                sent += 1
                await asyncio.sleep(0)

        async with served(behave) as (_, router, address):
            reader, writer = await open_raw(address)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.wait_for(blocked.wait(), 60)
            held = sent
            assert held < 1000
            await asyncio.wait_for(reader.readexactly(held * 32 * 1024 + INITIAL_CREDIT * 2), 60)
            assert sent > held
            writer.close()
            await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)

    async def test_failure_after_the_first_piece_breaks_the_connection(self):
        async def behave(call):
            call.message(response(body=b"first"))
            await asyncio.sleep(0)
            call.end(ValueError("too late"))

        async with served(behave) as (client, _, _):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/")

    async def test_what_is_no_response_is_an_error(self):
        for message in (b"\xff\xff", response(0), response(99), response(101), response(1000)):
            async with served(lambda call, message=message: call.end(None, message)) as (client, _, _):
                answer = await client.get("/")
                assert_status(answer, 500, grpc.StatusCode.INTERNAL, "Internal Server Error")


def assert_status(answer, status, code, message):
    """That an answer is a google.rpc.Status of the door's own."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.json() == {"code": code.value[0], "message": message, "details": []}


async def open_raw(address):
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port), limit=2**17)


class TestErrors:
    async def failing(self, error, **headers):
        async with served(lambda call: call.end(error)) as (client, _, _):
            return await client.get("/", headers=headers)

    async def test_user_exception_shows_nothing(self):
        answer = await self.failing(ValueError("secret"))
        assert_status(answer, 500, grpc.StatusCode.INTERNAL, "Internal Server Error")
        assert b"secret" not in answer.content
        assert answer.headers["x-request-id"] == "made-1"

    @pytest.mark.parametrize(("retry_after", "expected"), [(None, None), (0.2, "1"), (3.0, "3")])
    async def test_backpressure(self, retry_after, expected):
        answer = await self.failing(BackPressureError(5, 4, 429 if retry_after else 503, retry_after))
        assert answer.status_code == (429 if retry_after else 503)
        assert answer.json()["code"] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert answer.json()["message"].startswith("Request dropped due to backpressure")
        assert answer.headers.get("retry-after") == expected

    async def test_deadline(self):
        async with served(lambda call: None) as (client, _, _):
            answer = await client.get("/", headers={"x-request-timeout-seconds": "0.05", "x-request-id": "r"})
        assert (answer.status_code, answer.json()["code"]) == (408, grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
        assert answer.json()["message"] == "Request r timed out after 0.05s."

    async def test_every_reason_is_in_the_details(self):
        answer = await self.failing(DeploymentUnavailableError("failed to deploy"))
        assert answer.status_code == 503
        assert answer.json() == {
            "code": 14,
            "message": "failed to deploy",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "DEPLOYMENT_UNAVAILABLE",
                    "domain": "fairlead",
                }
            ],
        }
        assert (await self.failing(ResultNotSerializableError("no"))).status_code == 500

    async def test_end_without_a_response(self):
        assert (await self.failing(None)).status_code == 500

    async def test_client_that_leaves_cancels_its_call(self):
        async with served(lambda call: None) as (_, router, address):
            _, writer = await open_raw(address)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.wait_for(router.called.wait(), 60)
            writer.close()
            await asyncio.wait_for(router.calls[0].cancelled.wait(), 60)

    async def test_client_that_leaves_may_ask_not_to(self):
        async with served(lambda call: None) as (_, router, address):
            _, writer = await open_raw(address)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nx-request-disconnect-disabled: ?1\r\n\r\n")
            await asyncio.wait_for(router.called.wait(), 60)
            writer.close()
            _, other = await open_raw(address)
            other.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.wait_for(_until(lambda: len(router.calls) == 2), 60)
            other.close()
            await asyncio.wait_for(router.calls[1].cancelled.wait(), 60)
            assert not router.calls[0].done
            router.calls[0].end(None, response())

    async def test_client_that_leaves_in_the_middle_of_its_body(self):
        async with served() as (client, router, address):
            _, writer = await open_raw(address)
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
            await writer.drain()
            writer.close()
            assert (await client.get("/")).status_code == 200
        assert len(router.calls) == 1


async def _until(condition):
    while not condition():
        await asyncio.sleep(0)


class TestRouting:
    async def test_prefixes(self):
        apps = [application("a", route_prefix="/a"), application("ab", route_prefix="/a/b")]
        async with served(applications=[*apps, application("hidden", route_prefix=None)]) as (client, router, _):
            for path, expected in [("/a", "a"), ("/a/", "a"), ("/a/bc", "a"), ("/a/b", "ab"), ("/a/b/c", "ab")]:
                assert (await client.get(path)).status_code == 200
                assert router.calls[-1].header.application == expected
            answer = await client.get("/abc")
            message = "Path '/abc' not found. Ping http://.../-/routes for available routes."
            assert_status(answer, 404, grpc.StatusCode.NOT_FOUND, message)
            assert (await client.get("/-/routes")).json() == {"/a": "a", "/a/b": "ab"}
            router.deploy(application("root"))
            assert (await client.get("/abc")).status_code == 200
            assert (await client.get("/-/routes")).json() == {"/": "root"}

    async def test_a_long_path_is_not_repeated_whole(self):
        async with served(applications=[application("a", route_prefix="/a")]) as (client, _, _):
            message = (await client.get("/" + "x" * 10_000)).json()["message"]
        assert message == f"Path '/{'x' * 199}…' not found. Ping http://.../-/routes for available routes."

    async def test_healthz(self):
        router = FakeRouter(echo)
        door = HttpDoor(router, TcpListener())
        address = await door.start()
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:

            async def ask():
                answer = await client.get("/-/healthz")
                if answer.status_code == 200:
                    return 200, answer.text
                assert answer.json()["code"] == grpc.StatusCode.UNAVAILABLE.value[0]
                return answer.status_code, answer.json()["message"]

            assert await ask() == (503, "Route table is not populated yet.")
            router.deploy()
            assert await ask() == (200, "success")
            router.deploy(application(replicas=0))
            assert await ask() == (503, "No replicas are available yet.")
            router.deploy(application())
            assert await ask() == (200, "success")
            door.drain()
            assert await ask() == (503, "This node is being drained.")
            assert (await client.get("/")).status_code == 200
        await door.stop(1)


class TestListener:
    async def test_token(self):
        async with served(listener=TcpListener(token="s3cret")) as (client, router, _):
            for headers in ({}, {"authorization": "Bearer wrong"}):
                answer = await client.get("/", headers=headers)
                assert_status(
                    answer, 401, grpc.StatusCode.UNAUTHENTICATED, "Send the header 'Authorization: Bearer <token>'."
                )
                assert answer.headers["www-authenticate"] == "Bearer"
                assert (await client.get("/-/routes", headers=headers)).status_code == 401
            assert (await client.get("/-/healthz")).status_code == 200
            assert (await client.get("/", headers={"authorization": "Bearer s3cret"})).status_code == 200
        assert len(router.calls) == 1

    async def test_tls(self, pki, caplog):
        async with served(listener=TcpListener(tls=tls(pki), token="s3cret")) as (_, router, address):
            async with https(address, pki) as client:
                assert (await client.get("/")).status_code == 401
                answer = await client.post("/", headers={"authorization": "Bearer s3cret"}, content=bytes(1_000_000))
                assert answer.content == bytes(1_000_000)
            async with httpx.AsyncClient(trust_env=False) as stranger:
                with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
                    await stranger.get(f"https://{address}/")
                with pytest.raises(httpx.HTTPError):
                    await stranger.get(f"http://{address}/")
        assert request_of(router.calls[0]).scheme == "https"
        assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []

    async def test_client_certificates(self, pki):
        listener = TcpListener(tls=tls(pki, client_ca_file=str(pki / "ca.pem")))
        async with served(listener=listener) as (_, _, address):
            async with https(address, pki, own=True) as client:
                assert (await client.get("/")).status_code == 200
            async with https(address, pki) as client:
                with pytest.raises(httpx.HTTPError):
                    await client.get("/-/healthz")

    async def test_a_key_with_a_password(self, pki):
        encrypted = str(pki / "encrypted.key")
        listener = TcpListener(tls=tls(pki, key_file=encrypted, key_password=PASSWORD))
        async with served(listener=listener) as (_, _, address), https(address, pki) as client:
            assert (await client.get("/")).status_code == 200
        for wrong in (None, "wrong", ""):
            door = HttpDoor(FakeRouter(), TcpListener(tls=tls(pki, key_file=encrypted, key_password=wrong)))
            with pytest.raises(BindError, match="cannot use the certificates"):
                await door.start()

    async def test_pickles_are_not_a_serialization_of_http(self):
        async with served() as (client, router, _):
            await client.post("/", headers={"content-type": "application/vnd.fairlead.pickle"}, content=b"cos\n")
        assert router.calls[0].header.request_serialization == session_pb2.SERIALIZATION_HTTP

    async def test_head_above_the_limit(self):
        async with served(limits=HttpLimits(max_head_bytes=1000)) as (client, router, address):
            reader, writer = await open_raw(address)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-filler: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 50)
            await asyncio.wait_for(_closed_with(reader, b"HTTP/1.1 431 "), 60)
            writer.close()
            assert (await client.get("/")).status_code == 200
        assert len(router.calls) == 1

    @pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\nx-slow"])
    async def test_head_that_never_ends(self, begun):
        async with served(limits=HttpLimits(head_timeout_s=0.05)) as (_, router, address):
            reader, writer = await open_raw(address)
            writer.write(begun)
            await asyncio.wait_for(_closed_with(reader, b"HTTP/1.1 408 "), 60)
            writer.close()
        assert router.calls == []

    async def test_idle_connection_is_not_a_slow_head(self):
        router = FakeRouter(echo)
        router.deploy(application())
        door = HttpDoor(router, TcpListener())
        reader, writer = await open_raw(await door.start())
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            (connection,) = door._server.server_state.connections
            assert connection._head_timer is None
        writer.close()
        await door.stop(1)

    async def test_an_idle_connection_is_closed(self):
        async with served(limits=HttpLimits(keep_alive_timeout_s=0.05)) as (_, _, address):
            reader, writer = await open_raw(address)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(), 60)).startswith(b"HTTP/1.1 200 ")
            writer.close()

    async def test_garbage_and_the_door_lives(self):
        async with served() as (client, _, address):
            reader, writer = await open_raw(address)
            writer.write(b"\x16\x03\x01 not http\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(), 60)).startswith(b"HTTP/1.1 400")
            writer.close()
            assert (await client.get("/")).status_code == 200

    async def test_pipelined_requests_are_answered_in_order(self):
        async with served() as (_, _, address):
            reader, writer = await open_raw(address)
            for n in range(3):
                writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n%d" % n)
            for n in range(3):
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
                assert b"content-length: 1\r\n" in head
                assert await reader.readexactly(1) == b"%d" % n
            writer.close()

    async def test_stop_lets_requests_finish(self):
        release = asyncio.Event()

        async def behave(call):
            await release.wait()
            call.end(None, response(body=json.dumps("done").encode()))

        router = FakeRouter(behave)
        router.deploy(application())
        door = HttpDoor(router, TcpListener())
        address = await door.start()
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
            running = asyncio.ensure_future(client.get("/"))
            await asyncio.wait_for(router.called.wait(), 60)
            stopping = asyncio.ensure_future(door.stop(10))
            release.set()
            assert (await asyncio.wait_for(running, 60)).json() == "done"
            await asyncio.wait_for(stopping, 60)
            with pytest.raises(httpx.ConnectError):
                await client.get("/")


async def _closed_with(reader, beginning):
    data = await reader.read(2**16)
    while not reader.at_eof():
        data += await reader.read(2**16)
    assert data.startswith(beginning)
