"""The gRPC door of a real instance, seen by programs that have its .proto files, or not even them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import orjson
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from fairlead import serve
from fairlead.v1 import serving_pb2, serving_pb2_grpc
from tests.e2e.conftest import Ports
from tests.e2e.doors_app import Methods
from tests.e2e.peers import body, failure, start

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture(scope="module", autouse=True)
def methods(ports: Ports) -> Any:
    return serve.run(Methods.bind(), name="methods", route_prefix=None)


@pytest.fixture(params=["tcp", "unix"])
def anywhere(request: pytest.FixtureRequest, ports: Ports) -> Iterator[grpc.Channel]:
    """A connection to the port, or to the owner's socket."""
    with grpc.insecure_channel(ports.grpc if request.param == "tcp" else ports.trusted) as channel:
        yield channel


def test_names_may_be_left_out(anywhere: grpc.Channel) -> None:
    """With one application: it, and its ingress."""
    (answer,) = start(anywhere, "Call", serving_pb2.Target(method="echo"), body({"a": 1}))
    assert orjson.loads(answer.payload.data) == {"a": 1}
    assert answer.payload.content_type == "application/json"


def test_streams(anywhere: grpc.Channel) -> None:
    items = start(anywhere, "CallStream", serving_pb2.Target(method="count"), body(1000))
    assert [orjson.loads(item.payload.data) for item in items] == list(range(1000))
    requests = [
        serving_pb2.CallBidiRequest(target=serving_pb2.Target(method="total"), payload=body()),
        *(serving_pb2.CallBidiRequest(payload=body(data=str(number).encode())) for number in range(100)),
    ]
    (total,) = serving_pb2_grpc.ServingServiceStub(anywhere).CallBidi(iter(requests), timeout=30)
    assert orjson.loads(total.payload.data) == 4950


class TestHealth:
    def test_check(self, anywhere: grpc.Channel) -> None:
        health = health_pb2_grpc.HealthStub(anywhere)
        for service in ("", "fairlead.v1.ServingService", "methods"):
            assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]

    def test_list(self, anywhere: grpc.Channel) -> None:
        statuses = health_pb2_grpc.HealthStub(anywhere).List(health_pb2.HealthListRequest()).statuses
        assert {name: status.status for name, status in statuses.items()} == {
            "": SERVING,
            "fairlead.v1.ServingService": SERVING,
            "methods": SERVING,
        }

    def test_watch_follows_an_application(self, channel: grpc.Channel) -> None:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="later"), timeout=30)
        assert next(watch).status == UNKNOWN
        serve.run(Methods.bind(), name="later", route_prefix=None)
        seen = [next(watch).status]
        while seen[-1] != SERVING:
            seen.append(next(watch).status)
        assert seen in ([SERVING], [NOT_SERVING, SERVING])
        serve.delete("later")
        seen = [next(watch).status]
        while seen[-1] != UNKNOWN:
            seen.append(next(watch).status)
        assert seen in ([UNKNOWN], [NOT_SERVING, UNKNOWN])
        watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_a_client_that_knows_reflection_only(version: str, anywhere: grpc.Channel) -> None:
    """It finds the service, builds its messages, and calls it."""

    def ask(**question: Any) -> Any:
        call = anywhere.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        (answer,) = call(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=30)
        return answer

    services = [each.name for each in ask(list_services="").list_services_response.service]
    assert {"fairlead.v1.ServingService", "grpc.health.v1.Health"} < set(services)
    files = {}
    for data in ask(file_containing_symbol="fairlead.v1.ServingService").file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
        files[file.name] = file
    pool = descriptor_pool.DescriptorPool()

    def add(name: str) -> None:
        if (file := files.pop(name, None)) is not None:
            for dependency in file.dependency:
                add(dependency)
            pool.Add(file)

    for name in list(files):
        add(name)
    method = pool.FindServiceByName("fairlead.v1.ServingService").methods_by_name["Call"]
    request = message_factory.GetMessageClass(method.input_type)()
    request.target.method = "echo"
    request.payload.data = b'[["hello"]]'
    answer = message_factory.GetMessageClass(method.output_type).FromString(
        anywhere.unary_unary("/fairlead.v1.ServingService/Call")(request.SerializeToString(), timeout=30)
    )
    assert answer.payload.data == b'"hello"'


def test_with_two_applications_one_must_be_named(channel: grpc.Channel) -> None:
    serve.run(Methods.bind(), name="second", route_prefix=None)
    code, message, _ = failure(start(channel, "Call", serving_pb2.Target(method="echo"), body(1)))
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    assert "methods" in message
    assert "second" in message
    serve.delete("second")
