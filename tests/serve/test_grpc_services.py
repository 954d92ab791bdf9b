"""Declaring typed services: generated code, descriptor sets, inherited servicers, and what makes no sense."""

from __future__ import annotations

import pickle

import cloudpickle
import pytest
from google.protobuf import descriptor_pb2, text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fairlead import serve
from fairlead.serve import instance_services
from fairlead.serve.graph import application_spec
from fairlead.serve.grpc_services import describe_sources, grpc_service
from fairlead.serve.interface import interface_of
from fairlead.serve.service_sources import JsonOptions
from fairlead.v1 import control_pb2, serving_pb2

ADD = "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server"
HEALTH = "grpc.health.v1.Health"


def descriptor_set(*files):
    return descriptor_pb2.FileDescriptorSet(
        file=[descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb) for file in files]
    ).SerializeToString()


def plain():
    class Checks:
        def Check(self, request):
            return health_pb2.HealthCheckResponse()

    return Checks


def names(interface):
    return [service.name for service in interface.typed_services]


def files(interface):
    return [file.name for file in descriptor_pb2.FileDescriptorSet.FromString(interface.descriptor_set).file]


@pytest.mark.parametrize(
    "source",
    [
        health_pb2_grpc.add_HealthServicer_to_server,
        ADD,
        "grpc_health.v1.health_pb2_grpc:add_HealthServicer_to_server",
        descriptor_set(health_pb2.DESCRIPTOR),
    ],
)
def test_a_class_says_that_it_implements_a_service(source):
    interface = interface_of(grpc_service(source)(plain()))
    assert names(interface) == [HEALTH]
    assert files(interface) == ["grpc_health/v1/health.proto"]
    modules = [] if isinstance(source, bytes) else ["grpc_health.v1.health_pb2_grpc"]
    assert list(interface.message_modules) == modules


def test_a_file_with_a_descriptor_set(tmp_path):
    path = tmp_path / "health.binpb"
    path.write_bytes(descriptor_set(health_pb2.DESCRIPTOR))
    assert names(interface_of(grpc_service(path)(plain()))) == [HEALTH]
    assert names(interface_of(grpc_service(str(path))(plain()))) == [HEALTH]


def test_imports_that_a_descriptor_set_lacks_are_found_here():
    class Serving:
        def Call(self, request): ...

    interface = interface_of(grpc_service(descriptor_set(serving_pb2.DESCRIPTOR))(Serving))
    assert {"google/api/httpbody.proto", "google/protobuf/any.proto"} < set(files(interface))
    lonely = descriptor_pb2.FileDescriptorSet(
        file=[descriptor_pb2.FileDescriptorProto(name="a.proto", dependency=["nowhere.proto"])]
    )
    with pytest.raises(ValueError, match=r"lacks 'nowhere.proto'.*--include_imports"):
        grpc_service(lonely.SerializeToString())


def test_inheriting_from_a_servicer_is_enough():
    class Own(health_pb2_grpc.HealthServicer):
        async def Check(self, request, context): ...

    class Further(Own): ...

    assert names(interface_of(Own)) == names(interface_of(Further)) == [HEALTH]
    assert not interface_of(Own).handles_requests
    described = grpc_service(ADD, json=JsonOptions(always_print_enums_as_ints=True))(Own)
    [service] = interface_of(described).typed_services
    assert service.json.always_print_enums_as_ints


def test_a_classes_other_names_and_options():
    class Other:
        def look(self, request): ...

    interface = interface_of(
        grpc_service(ADD, methods={"Check": "look"}, json={"ignored_query_parameters": ["key"]})(Other)
    )
    [service] = interface.typed_services
    assert dict(service.methods) == {"Check": "look"}
    assert list(service.json.ignored_query_parameters) == ["key"]
    assert not interface_of(grpc_service(ADD)(plain())).typed_services[0].HasField("json")


def test_the_mark_survives_subclassing_and_pickling():
    marked = grpc_service(ADD)(plain())

    class Further(marked): ...

    assert names(interface_of(Further)) == [HEALTH]
    copy = pickle.loads(cloudpickle.dumps(marked))
    assert names(interface_of(copy)) == [HEALTH]


def test_only_implemented_services_of_a_set_are_offered():
    both = descriptor_set(health_pb2.DESCRIPTOR, serving_pb2.DESCRIPTOR)
    assert names(interface_of(grpc_service(both)(plain()))) == [HEALTH]
    with pytest.raises(ValueError, match=r"Checks has no method of fairlead.v1.ServingService"):
        grpc_service(both, service="fairlead.v1.ServingService")(plain())


@pytest.mark.parametrize(
    ("source", "options", "error", "match"),
    [
        (b"\xff\xff", {}, ValueError, "FileDescriptorSet"),
        (b"", {}, ValueError, "no files"),
        (3, {}, TypeError, "not by 3"),
        (print, {}, TypeError, "no generated function"),
        ("nowhere_at_all.add_X", {}, ModuleNotFoundError, "nowhere_at_all"),
        ("sys.nothing", {}, ValueError, "no function 'nothing'"),
        ("justaname", {}, ValueError, "neither a file nor an import path"),
        ("/no/such/file.binpb", {}, FileNotFoundError, "file.binpb"),
        (ADD, {"service": HEALTH}, TypeError, "service="),
        (ADD, {"methods": {"Chek": "x"}}, ValueError, "no method Chek"),
        (ADD, {"json": {"nonsense": 1}}, TypeError, "nonsense"),
        (ADD, {"json": {"ignored_query_parameters": "key"}}, TypeError, "list"),
        (descriptor_set(health_pb2.DESCRIPTOR), {"service": "x.Y"}, ValueError, "does not describe x.Y"),
    ],
)
def test_sources_that_describe_nothing(source, options, error, match):
    with pytest.raises(error, match=match):
        grpc_service(source, **options)


def test_what_it_cannot_decorate():
    class Empty: ...

    with pytest.raises(ValueError, match=r"Empty has no method of grpc.health.v1.Health"):
        grpc_service(ADD)(Empty)
    with pytest.raises(ValueError, match="has no method 'look'"):
        grpc_service(ADD, methods={"List": "look"})(plain())
    with pytest.raises(TypeError, match=r"below @serve\.deployment"):
        grpc_service(ADD)(serve.deployment(plain()))
    with pytest.raises(TypeError, match="for classes"):
        grpc_service(ADD)(lambda request: None)


def test_files_of_one_name_must_be_one_file():
    other = descriptor_pb2.FileDescriptorProto(name="grpc_health/v1/health.proto", package="x")
    other.message_type.add(name="M")
    other.service.add(name="S").method.add(name="Check", input_type=".x.M", output_type=".x.M")
    marked = grpc_service(descriptor_pb2.FileDescriptorSet(file=[other]).SerializeToString())(plain())
    with pytest.raises(ValueError, match="two different files"):
        interface_of(grpc_service(ADD)(marked))


def test_an_instances_services_are_served_by_ingresses_that_have_their_methods(tmp_path):
    instance_services.keep(tmp_path, [ADD])
    services = instance_services.kept(f"unix:{tmp_path}/controller.sock")
    assert names(services) == [HEALTH]
    spec = application_spec(serve.deployment(plain()).bind(), services=services)
    assert names(spec.deployments[0].interface) == [HEALTH]

    @serve.deployment
    class Web:
        def __call__(self): ...

        def Check(self, request): ...

    spec = application_spec(Web.bind(), services=services)
    assert spec.deployments[0].interface.handles_requests

    @serve.deployment
    class Stranger:
        def other(self): ...

    assert not application_spec(Stranger.bind(), services=services).deployments[0].HasField("interface")
    by_path = application_spec(serve.deployment("package.module:Thing").bind(), services=services)
    assert names(by_path.deployments[0].interface) == [HEALTH]
    instance_services.keep(tmp_path, [])
    assert instance_services.kept(f"unix:{tmp_path}/controller.sock") == control_pb2.DeploymentInterface()
    assert instance_services.kept("localhost:9000") == control_pb2.DeploymentInterface()


def test_generated_code_of_older_versions_registers_by_generic_handlers_only():
    import grpc

    def add_OldServicer_to_server(servicer, server):
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(
                servicer.Check, health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse
            )
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH, handlers),))

    assert names(describe_sources([add_OldServicer_to_server])) == [HEALTH]


RULES = """
name: "r.proto" package: "r" syntax: "proto3" dependency: "google/api/annotations.proto"
message_type { name: "M" field { name: "id" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } }
service {
  name: "S"
  method { name: "A" input_type: ".r.M" output_type: ".r.M" options { [google.api.http] { get: "%s" %s } } }
  method { name: "B" input_type: ".r.M" output_type: ".r.M" options { [google.api.http] { get: "/b/{id}" } } }
}
"""


@pytest.mark.parametrize(
    ("path", "more", "match"),
    [
        ("/b/{id}", "", r"two routes take GET on the same paths: GET /b/\{id\} of S: r.S.A, and .*r.S.B"),
        ("/b/*", "", "two routes take GET"),
        ("/c", 'additional_bindings { get: "/b/{id}" }', "two routes take GET"),
        ("/a/{name}", "", r"google.api.http of r.S.A: r.M has no field 'name'"),
        ("/a/{id", "", "without"),
        ("/a", 'body: "name"', "body: r.M has no field 'name'"),
        ("/a", 'response_body: "name"', "response_body: r.M has no field 'name'"),
        ("/a", 'additional_bindings { get: "/x" additional_bindings { get: "/y" } }', "no further ones"),
        ("/a", "additional_bindings { }", "no path"),
    ],
)
def test_annotations_that_cannot_be_served_are_refused_at_deploy(path, more, match):
    file = text_format.Parse(RULES % (path, more), descriptor_pb2.FileDescriptorProto())
    source = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()

    @serve.deployment
    @grpc_service(source)
    class S:
        def A(self, request): ...

    with pytest.raises(ValueError, match=match):
        application_spec(S.bind())


def test_routes_of_two_kinds_must_not_take_the_same():
    file = text_format.Parse(RULES % ("/a/{id}", ""), descriptor_pb2.FileDescriptorProto())

    @serve.deployment
    @grpc_service(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())
    class S:
        def A(self, request): ...

        @serve.route("/a/{other}")
        def other(self, other: str): ...

    with pytest.raises(ValueError, match="two routes take GET on the same paths"):
        application_spec(S.bind())
