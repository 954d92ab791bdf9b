"""The message classes of a deployment's typed services: the user's own where there are such, else made here."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

logger = logging.getLogger(__name__)


class MessageTypes:
    """The types of one descriptor set."""

    def __init__(self, descriptor_set: bytes, modules: Iterable[str] = ()) -> None:
        """``modules``: generated ones that the user's code may import, imported here so that their classes are used.

        Raises what protobuf raises for a descriptor set that is none.
        """
        for module in modules:
            _import(module)
        self._pool = DescriptorPool()
        files = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file}
        added: set[str] = set()
        for name in files:
            self._add(files, name, added)

    def _add(self, files: dict[str, descriptor_pb2.FileDescriptorProto], name: str, added: set[str]) -> None:
        if name not in added:
            added.add(name)
            for dependency in files[name].dependency:
                self._add(files, dependency, added)
            self._pool.AddSerializedFile(files[name].SerializeToString())

    def service(self, name: str) -> ServiceDescriptor:
        """The service of that full name. Raises KeyError."""
        return self._pool.FindServiceByName(name)

    def message_class(self, descriptor: Descriptor) -> type[Message]:
        """The class of a message type: the one that the user's code imports, if it is of the same file."""
        try:
            known = descriptor_pool.Default().FindMessageTypeByName(descriptor.full_name)
        except KeyError:
            return message_factory.GetMessageClass(descriptor)
        if not _same(known.file, descriptor.file):
            logger.warning(
                "%s was deployed from another version of %s than is imported here; methods get messages of the former",
                descriptor.full_name,
                known.file.name,
            )
            return message_factory.GetMessageClass(descriptor)
        return message_factory.GetMessageClass(known)


def _same(one: FileDescriptor, other: FileDescriptor) -> bool:
    return one.serialized_pb == other.serialized_pb or _contents(one) == _contents(other)


def _contents(file: FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    """What a file declares; where it was found, and its JSON names, differ between compilers."""
    contents = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(contents)
    contents.ClearField("name")
    contents.ClearField("dependency")
    contents.ClearField("source_code_info")
    return contents


def _import(module: str) -> None:
    """Imports a module if that is possible: without it messages have classes that are made here."""
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever stands in the module runs
        logger.debug("the generated module %s cannot be imported here: %s", module, error)
