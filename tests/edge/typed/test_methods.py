"""The table of RPC methods, and how it follows the route table."""

import pytest

from fairlead.v1 import control_pb2, serving_pb2, session_pb2
from fairlead.wire.errors import ApplicationNotFoundError, InvalidCallError
from fairlead_gateway.edge.typed.methods import RpcMethods
from fairlead_gateway.routing.table import RouteTable
from tests.edge.typed.schema import SERVICE, application

GET = f"/{SERVICE}/GetBook"


class Clockless:
    def __call__(self):
        return 0.0


@pytest.fixture
def table():
    return RouteTable(Clockless())


def deploy(table, *applications):
    table.apply(control_pb2.WatchResponse(version=table.version + 1, applications=applications))


async def test_a_method_is_found_by_its_full_name(table):
    methods = RpcMethods(table)
    assert methods.find(GET) is None
    deploy(table, application())
    method = methods.find(GET)
    assert method is methods.find(GET, "books")
    assert (method.application, method.deployment, method.path) == ("books", "Library", GET)
    assert method.descriptor.input_type.full_name == "library.v1.GetBookRequest"
    kinds = {name: methods.find(f"/{SERVICE}/{name}") for name in ("GetBook", "WatchBooks", "AddBooks", "Chat")}
    assert [(m.client_streaming, m.server_streaming) for m in kinds.values()] == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ]
    assert methods.find(f"/{SERVICE}/Nothing") is None
    assert methods.find("/library.v1.Nothing/GetBook") is None
    deploy(table)
    assert methods.find(GET) is None


async def test_with_several_applications_the_call_says_which(table):
    methods = RpcMethods(table)
    deploy(table, application("a"), application("b", deployment="Other"))
    assert methods.find(GET, "b").deployment == "Other"
    with pytest.raises(ApplicationNotFoundError, match=r"not set.*'a', 'b'"):
        methods.find(GET)
    with pytest.raises(ApplicationNotFoundError, match=r"'c' not found.*'a', 'b'"):
        methods.find(GET, "c")
    assert {method.application for method in methods.of_application("b")} == {"b"}


async def test_the_ingress_deployments_service_comes_first(table):
    methods = RpcMethods(table)
    both = application(deployment="Zoo")
    both.deployments.add().CopyFrom(application(deployment="Ape").deployments[0])
    deploy(table, both)
    assert methods.find(GET).deployment == "Zoo"


async def test_statuses_tell_whether_anybody_serves(table):
    methods = RpcMethods(table)
    deploy(table, application("a", serving=False))
    assert methods.statuses() == {SERVICE: False}
    deploy(table, application("a", serving=False), application("b"))
    assert methods.statuses() == {SERVICE: True}


async def test_nothing_is_built_again_where_nothing_changed(table):
    methods = RpcMethods(table)
    changes = []
    methods.on_change.append(lambda: changes.append(1))
    deploy(table, application())
    before = methods.find(GET)
    deploy(table, application(), control_pb2.ApplicationRoutes(name="other"))
    assert methods.find(GET) is before
    assert len(changes) == 1
    deploy(table, application(preserve_proto_field_names=True))
    assert len(changes) == 2
    assert methods.find(GET).json.options.proto_names
    assert methods.find(GET).json.pool is before.json.pool


async def test_a_descriptor_set_that_is_none_takes_nothing_else_down(table, caplog):
    methods = RpcMethods(table)
    deploy(
        table,
        application("bad", descriptor_set=b"\xff\xff"),
        application("worse", service="library.v1.Missing"),
        application("good"),
    )
    assert methods.find(GET).application == "good"
    assert [record.args[0] for record in caplog.records] == ["bad", "worse"]


async def test_a_typed_methods_bytes_cross_as_they_are(table):
    methods = RpcMethods(table)
    deploy(table, application())
    header = session_pb2.CallHeader(request_id="r")
    assert methods.find(GET).begin(header, b"\x01junk") == b"\x01junk"
    assert (header.application, header.deployment, header.method) == ("books", "Library", GET)
    assert header.request_serialization == header.response_serialization == session_pb2.SERIALIZATION_PROTOBUF
    assert not header.stream
    assert header.idempotent  # as its idempotency_level says
    header = session_pb2.CallHeader()
    assert methods.find(f"/{SERVICE}/Chat").begin(header, b"x") == b""
    assert header.stream
    assert not header.idempotent
    assert methods.find(GET).result(b"y", header) == b"y"


async def test_serving_service_is_among_them(table):
    methods = RpcMethods(table)
    method = methods.find("/fairlead.v1.ServingService/Call", "whatever")
    assert methods.find("/fairlead.v1.ServingService/Session") is None
    header = session_pb2.CallHeader(request_id="mine", timeout_us=5)
    request = serving_pb2.CallRequest(target=serving_pb2.Target(application="a", deployment="d", method="m"))
    request.payload.data = b"[[1], {}]"
    assert method.begin(header, request.SerializeToString()) == b"[[1], {}]"
    assert (header.application, header.deployment, header.method) == ("a", "d", "m")
    assert (header.request_id, header.timeout_us) == ("mine", 5)
    answer = serving_pb2.CallResponse.FromString(method.result(b"2", header))
    assert (answer.payload.content_type, answer.payload.data) == ("application/json", b"2")
    with pytest.raises(InvalidCallError):
        method.begin(header, b"\xff\xff")
    bidi = methods.find("/fairlead.v1.ServingService/CallBidi")
    assert not bidi.starts_empty
    with pytest.raises(InvalidCallError, match="target"):
        bidi.further(request.SerializeToString())
    broadcast = methods.find("/fairlead.v1.ServingService/Broadcast")
    broadcast.begin(header, request.SerializeToString())
    assert header.broadcast
    assert broadcast.result(b"as it is", header) == b"as it is"
