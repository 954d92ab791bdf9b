"""Where typed services are described: generated code and descriptor sets, read into declarations."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from fairlead.serve.config import Settings
from fairlead.serve.descriptor_sets import FileProto, files_of, read_files
from fairlead.v1 import control_pb2

Source: TypeAlias = "Callable[..., Any] | str | bytes | os.PathLike[str]"
"""A generated ``add_…Servicer_to_server``, its import path, a descriptor set, or the path of a file with one."""


@dataclass(frozen=True, kw_only=True)
class JsonOptions(Settings):
    """How a typed service's messages look in JSON over HTTP. The defaults are those of canonical ProtoJSON."""

    always_print_primitive_fields: bool = False
    """Whether fields without presence that have their default value are written."""
    preserve_proto_field_names: bool = False
    """Whether fields are written with their names in the .proto file instead of lowerCamelCase."""
    always_print_enums_as_ints: bool = False
    """Whether enum values are written as numbers."""
    ignore_unknown_fields: bool = False
    """Whether unknown fields of a body are ignored instead of refused."""
    ignored_query_parameters: Sequence[str] = ()
    """Query parameters that are ignored where they are unknown; others are refused."""

    def __post_init__(self) -> None:
        if isinstance(self.ignored_query_parameters, str):
            raise TypeError("ignored_query_parameters is a list of names, not a string")
        object.__setattr__(self, "ignored_query_parameters", tuple(self.ignored_query_parameters))

    def to_proto(self) -> control_pb2.JsonOptions:
        """What gateways are told."""
        return control_pb2.JsonOptions(
            always_print_primitive_fields=self.always_print_primitive_fields,
            preserve_proto_field_names=self.preserve_proto_field_names,
            always_print_enums_as_ints=self.always_print_enums_as_ints,
            ignore_unknown_fields=self.ignore_unknown_fields,
            ignored_query_parameters=list(self.ignored_query_parameters),
        )


@dataclass(frozen=True, kw_only=True)
class ServiceDeclaration:
    """Services that a class implements, as :func:`grpc_service` has found them."""

    names: tuple[str, ...]
    """Full names: the services to offer, or those among which to choose by the class's methods."""
    choose: bool
    """Whether only those of which the class has a method are meant."""
    files: tuple[bytes, ...]
    """The serialized files, dependencies first."""
    modules: tuple[str, ...] = ()
    """The generated modules."""
    methods: Mapping[str, str] = field(default_factory=dict)
    """The class's method for each RPC whose name differs."""
    json: JsonOptions | None = None
    """None: as is standard."""


def declared(source: Source, service: str | Sequence[str] | None = None) -> ServiceDeclaration:
    """The services of a source; of a descriptor set those that are named. Raises TypeError or ValueError."""
    if isinstance(source, str) and not _is_path(source):
        source = _import(source)
    if callable(source):
        if service is not None:
            raise TypeError("service= chooses among those of a descriptor set; a generated function is for one")
        return generated(source)
    if not isinstance(source, str | bytes | os.PathLike):
        raise TypeError(f"a service is described by a generated function or a descriptor set, not by {source!r}")
    files = read_files(source if isinstance(source, bytes) else Path(source).read_bytes())
    known = [f"{file.package}.{each.name}".lstrip(".") for file in files for each in file.service]
    if not known:
        raise ValueError("the descriptor set describes no service")
    names = known if service is None else [service] if isinstance(service, str) else list(service)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"the descriptor set does not describe {', '.join(unknown)}; it describes {', '.join(known)}")
    return ServiceDeclaration(
        names=tuple(names), choose=service is None, files=tuple(file.SerializeToString() for file in files)
    )


def _is_path(source: str) -> bool:
    return os.sep in source or os.path.isfile(source)


def _import(path: str) -> Callable[..., Any]:
    module_name, _, name = path.replace(":", ".").rpartition(".")
    if not module_name:
        raise ValueError(
            f"{path!r} is neither a file nor an import path like 'package.x_pb2_grpc.add_XServicer_to_server'"
        )
    module = importlib.import_module(module_name)
    found: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"the module {module_name!r} has no function {name!r}")  # noqa: TRY004 - it may be missing
    return found


class _Recorder:
    """A server to which generated code adds a service, and a servicer that has every method."""

    def __init__(self) -> None:
        self.handlers: dict[str, Mapping[str, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        for handler in handlers:
            self.handlers.setdefault(handler.service_name(), {})

    def add_registered_method_handlers(self, service_name: str, handlers: Mapping[str, Any]) -> None:
        self.handlers[service_name] = handlers

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


def generated(add: Callable[..., Any]) -> ServiceDeclaration:
    """What a generated ``add_…Servicer_to_server`` adds to a server."""
    recorder = _Recorder()
    try:
        add(recorder, recorder)
    except Exception as error:
        raise TypeError(f"{add!r} is no generated function add_…Servicer_to_server: {error}") from error
    if not recorder.handlers:
        raise TypeError(f"{add!r} is no generated function add_…Servicer_to_server: it adds no service")
    [name] = recorder.handlers
    descriptor = _find_service(name, recorder.handlers[name])
    module = getattr(add, "__module__", "") or ""
    return ServiceDeclaration(
        names=(name,),
        choose=False,
        files=tuple(file.SerializeToString() for file in files_of(descriptor.file)),
        modules=(module,) if module and module != "__main__" else (),
    )


def _find_service(name: str, handlers: Mapping[str, Any]) -> ServiceDescriptor:
    """The descriptor of a service, in the pool of the message classes that its generated code uses."""
    from google.protobuf import descriptor_pool

    pools: list[Any] = [descriptor_pool.Default()]
    for handler in handlers.values():
        message_class = getattr(handler.request_deserializer, "__self__", None)
        descriptor = getattr(message_class, "DESCRIPTOR", None)
        if descriptor is not None:
            pools.insert(0, descriptor.file.pool)
            break
    for pool in pools:
        try:
            found: ServiceDescriptor = pool.FindServiceByName(name)
        except KeyError:
            continue
        return found
    raise ValueError(f"nothing that is imported describes the service {name}: import its _pb2 module")


def inherited(cls: type) -> list[ServiceDeclaration]:
    """The services whose generated servicers a class inherits from, directly or not."""
    found = []
    for base in cls.__mro__[1:]:
        if base.__name__.endswith("Servicer"):
            add = getattr(sys.modules.get(base.__module__), f"add_{base.__name__}_to_server", None)
            if callable(add):
                found.append(generated(add))
    return found


def descriptors(declaration: ServiceDeclaration) -> list[ServiceDescriptor]:
    """The services of a declaration."""
    pool = pool_of([FileProto.FromString(file) for file in declaration.files])
    return [pool.FindServiceByName(name) for name in declaration.names]


def pool_of(files: Iterable[FileProto]) -> DescriptorPool:
    """A pool of files, dependencies first. Raises ValueError."""
    pool = DescriptorPool()
    for file in files:
        try:
            pool.AddSerializedFile(file.SerializeToString())
        except TypeError as error:  # what upb raises for whatever it cannot build
            raise ValueError(f"the file {file.name!r} of the descriptor set: {error}") from error
    return pool
