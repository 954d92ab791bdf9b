"""Descriptor sets of typed services: read, completed, and put together."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError

from fairlead.v1 import control_pb2

FileProto = descriptor_pb2.FileDescriptorProto


def read_files(descriptor_set: bytes) -> list[descriptor_pb2.FileDescriptorProto]:
    """The files of a serialized ``google.protobuf.FileDescriptorSet``, and those that they import, dependencies first.

    Imports that it lacks, as sets made without ``--include_imports`` do, are taken from what this program has imported.
    Raises ValueError for bytes that are none, and for imports that are nowhere.
    """
    try:
        given = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file}
    except DecodeError as error:
        raise ValueError("a descriptor set is a serialized google.protobuf.FileDescriptorSet") from error
    if not given:
        raise ValueError("the descriptor set has no files; make one with protoc --include_imports --descriptor_set_out")
    ordered: dict[str, FileProto] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in ordered:
            return
        if name in path:
            raise ValueError(f"the files of the descriptor set import each other: {' → '.join((*path, name))}")
        file = given.get(name) or _imported(name)
        for dependency in file.dependency:
            visit(dependency, (*path, name))
        ordered[name] = file

    for name in given:
        visit(name, ())
    return list(ordered.values())


def files_of(file: FileDescriptor) -> list[descriptor_pb2.FileDescriptorProto]:
    """A file that this program has imported, after those that it imports."""
    ordered: dict[str, FileProto] = {}

    def visit(file: FileDescriptor) -> None:
        if file.name not in ordered:
            for dependency in file.dependencies:
                visit(dependency)
            ordered[file.name] = FileProto.FromString(file.serialized_pb)

    visit(file)
    return list(ordered.values())


def add_files(interface: control_pb2.DeploymentInterface, files: Iterable[FileProto]) -> None:
    """Adds files, dependencies first, to an interface's descriptor set.

    Raises ValueError for one that differs from the one of that name which is there.
    """
    merged = descriptor_pb2.FileDescriptorSet.FromString(interface.descriptor_set)
    known = {file.name: file for file in merged.file}
    for file in files:
        there = known.get(file.name)
        if there is None:
            known[file.name] = merged.file.add()
            known[file.name].CopyFrom(file)
        elif there != file:
            raise ValueError(
                f"two different files are called {file.name!r}: the services of a class share one name space"
            )
    interface.descriptor_set = merged.SerializeToString()


def _imported(name: str) -> FileProto:
    try:
        found: FileDescriptor = descriptor_pool.Default().FindFileByName(name)
    except KeyError:
        raise ValueError(f"the descriptor set lacks {name!r}: make it with protoc --include_imports") from None
    return FileProto.FromString(found.serialized_pb)
