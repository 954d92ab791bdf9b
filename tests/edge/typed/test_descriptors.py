"""Descriptor sets to pools."""

import pytest
from google.protobuf import descriptor_pb2

from fairlead_gateway.edge.typed.descriptors import DescriptorError, pool_of
from tests.edge.typed.schema import SERVICE, library_set


def test_the_order_of_the_files_does_not_matter():
    files = descriptor_pb2.FileDescriptorSet.FromString(library_set())
    reversed_set = descriptor_pb2.FileDescriptorSet(file=reversed(files.file)).SerializeToString()
    service = pool_of(reversed_set).FindServiceByName(SERVICE)
    assert service.methods_by_name["GetBook"].output_type.full_name == "library.v1.Book"


@pytest.mark.parametrize(
    ("descriptor_set", "problem"),
    [
        (b"\xff\xff", "not a google.protobuf.FileDescriptorSet"),
        (
            descriptor_pb2.FileDescriptorSet(
                file=[descriptor_pb2.FileDescriptorProto(name="a.proto", dependency=["b.proto"])]
            ).SerializeToString(),
            "lacks the file 'b.proto'",
        ),
        (
            descriptor_pb2.FileDescriptorSet(
                file=[
                    descriptor_pb2.FileDescriptorProto(name="a.proto", dependency=["b.proto"]),
                    descriptor_pb2.FileDescriptorProto(name="b.proto", dependency=["a.proto"]),
                ]
            ).SerializeToString(),
            "'b.proto'",
        ),
        (
            descriptor_pb2.FileDescriptorSet(
                file=[
                    descriptor_pb2.FileDescriptorProto(
                        name="a.proto",
                        message_type=[
                            descriptor_pb2.DescriptorProto(
                                name="M",
                                field=[
                                    descriptor_pb2.FieldDescriptorProto(
                                        name="f", number=1, label=1, type=11, type_name=".nowhere.N"
                                    )
                                ],
                            )
                        ],
                    )
                ]
            ).SerializeToString(),
            "'a.proto'",
        ),
    ],
)
def test_what_is_wrong_is_said(descriptor_set, problem):
    with pytest.raises(DescriptorError, match=problem):
        pool_of(descriptor_set)
