"""Serialized descriptor sets to pools, in which the types of a deployment's services are found."""

from __future__ import annotations

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError


class DescriptorError(ValueError):
    """A descriptor set is none, or lacks a file, or contradicts itself. The message says which file it is about."""


def pool_of(descriptor_set: bytes) -> DescriptorPool:
    """A pool with the files of a serialized ``FileDescriptorSet``, in whatever order. Raises DescriptorError."""
    try:
        files = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file}
    except DecodeError as error:
        raise DescriptorError("the descriptor set is not a google.protobuf.FileDescriptorSet") from error
    pool = DescriptorPool()
    added: set[str] = set()
    for name in files:
        _add(pool, files, name, added)
    return pool


def _add(
    pool: DescriptorPool, files: dict[str, descriptor_pb2.FileDescriptorProto], name: str, added: set[str]
) -> None:
    """Adds a file after those that it imports. Each import is followed once, so that circles end."""
    if name in added:
        return
    added.add(name)
    file = files.get(name)
    if file is None:
        raise DescriptorError(f"the descriptor set lacks the file {name!r}, which another one imports")
    for dependency in file.dependency:
        _add(pool, files, dependency, added)
    try:
        pool.AddSerializedFile(file.SerializeToString())
    except TypeError as error:  # what upb raises for whatever it cannot build
        raise DescriptorError(f"the file {name!r} of the descriptor set: {error}") from error
