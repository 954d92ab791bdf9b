"""A derived service as descriptors: what gateways and replicas are given."""

from __future__ import annotations

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, duration_pb2, timestamp_pb2
from google.protobuf.descriptor import FileDescriptor

from fairlead.serve.derived.lock import LockedEnum, LockedMessage, LockedService
from fairlead.serve.derived.names import camel, pascal, snake
from fairlead.serve.derived.shapes import Element, Enumeration, Field, Imported, Label, Message, Method, Scalar, Service
from fairlead.v1 import tensor_pb2

_Field = descriptor_pb2.FieldDescriptorProto
ANNOTATIONS = "google/api/annotations.proto"
IMPORTS: dict[str, FileDescriptor] = {
    file.name: file
    for file in (
        annotations_pb2.DESCRIPTOR,
        tensor_pb2.DESCRIPTOR,
        timestamp_pb2.DESCRIPTOR,
        duration_pb2.DESCRIPTOR,
    )
}
"""The files that derived ones may import."""


def http_path(service: Service, method: Method) -> str:
    """Where a method is over HTTP, below the application's route prefix: "/digits/v1/classify_all"."""
    return f"/{service.package.replace('.', '/')}/{snake(method.name)}"


def file_of(service: Service, lock: LockedService) -> descriptor_pb2.FileDescriptorProto:
    """The file that defines the service, with the numbers of a lock that has all of them."""
    file = descriptor_pb2.FileDescriptorProto(name=service.file, package=service.package, syntax="proto3")
    file.dependency.extend(sorted([ANNOTATIONS, *service.imports()]))
    file.options.java_multiple_files = True
    definition = file.service.add(name=service.name)
    methods = {each.name: each for each in service.methods}
    for name in lock.methods:
        _add_method(definition, service, methods[name])
    for name, locked in lock.messages.items():
        if name in service.messages:
            _fill_message(file.message_type.add(name=name), service, service.messages[name], locked)
    for name, values in lock.enums.items():
        if name in service.enums:
            _fill_enum(file.enum_type.add(name=name), service.enums[name], values)
    return file


def set_of(files: list[descriptor_pb2.FileDescriptorProto]) -> descriptor_pb2.FileDescriptorSet:
    """Files with all that they import, each after what it imports."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in found:
            for dependency in file.dependencies:
                add(dependency)
            found[file.name] = made = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(made)

    for file in files:
        for name in file.dependency:
            add(IMPORTS[name])
    return descriptor_pb2.FileDescriptorSet(file=[*found.values(), *files])


def _add_method(definition: descriptor_pb2.ServiceDescriptorProto, service: Service, method: Method) -> None:
    made = definition.method.add(
        name=method.name,
        input_type=f".{service.package}.{method.request.name}",
        output_type=f".{service.package}.{method.response.name}",
    )
    if method.client_streaming:  # absent, as protoc writes it, where it is false
        made.client_streaming = True
    if method.server_streaming:
        made.server_streaming = True
    rule = made.options.Extensions[annotations_pb2.http]
    rule.post = http_path(service, method)
    rule.body = "*"


def _fill_message(
    made: descriptor_pb2.DescriptorProto, service: Service, message: Message, locked: LockedMessage
) -> None:
    fields = {each.name: each for each in message.fields}
    for name, numbered in locked.fields.items():
        _add_field(made, service, fields[name], numbered.number)
    for field in made.field:  # after the others: so protoc orders the oneofs that mark presence
        if field.proto3_optional:
            field.oneof_index = len(made.oneof_decl)
            made.oneof_decl.add(name=f"_{field.name}")
    gone = [each.number for each in locked.removed.values()]
    for number in sorted([*gone, *locked.reserved]):
        made.reserved_range.add(start=number, end=number + 1)
    made.reserved_name.extend(name for name in locked.removed if name not in locked.fields)


def _add_field(made: descriptor_pb2.DescriptorProto, service: Service, field: Field, number: int) -> None:
    added = made.field.add(name=field.name, number=number, json_name=camel(field.name), label=_Field.LABEL_OPTIONAL)
    if field.key_element is not None:
        entry = made.nested_type.add(name=f"{pascal(field.name)}Entry")
        entry.options.map_entry = True
        key = entry.field.add(name="key", number=1, json_name="key", label=_Field.LABEL_OPTIONAL)
        value = entry.field.add(name="value", number=2, json_name="value", label=_Field.LABEL_OPTIONAL)
        _set_type(key, service, field.key_element)
        _set_type(value, service, field.element)
        added.type = _Field.TYPE_MESSAGE
        added.type_name = f".{service.package}.{made.name}.{entry.name}"
    else:
        _set_type(added, service, field.element)
    if field.label in (Label.REPEATED, Label.MAP):
        added.label = _Field.LABEL_REPEATED
    elif field.label is Label.OPTIONAL:
        added.proto3_optional = True


def _set_type(field: descriptor_pb2.FieldDescriptorProto, service: Service, element: Element) -> None:
    if isinstance(element, Scalar):
        field.type = _Field.Type.Value(f"TYPE_{element.name.upper()}")
    elif isinstance(element, Imported):
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{element.name}"
    else:
        field.type = _Field.TYPE_ENUM if isinstance(element, Enumeration) else _Field.TYPE_MESSAGE
        field.type_name = f".{service.package}.{element.name}"


def _fill_enum(made: descriptor_pb2.EnumDescriptorProto, enumeration: Enumeration, locked: LockedEnum) -> None:
    made.value.add(name=enumeration.zero, number=0)
    for name, number in locked.values.items():
        made.value.add(name=name, number=number)
    for number in sorted(locked.removed.values()):
        made.reserved_range.add(start=number, end=number)
    made.reserved_name.extend(name for name in locked.removed if name not in locked.values)
