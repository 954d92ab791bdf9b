"""The typed services of a replica: which method of the user's an RPC means, and how it is called."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

import grpc

from fairlead.serve.grpc_util import RpcAborted, gRPCContext
from fairlead.v1 import control_pb2, session_pb2
from fairlead.wire.codecs import Codec
from fairlead.wire.errors import InvalidArgumentsError, MethodNotFoundError
from fairlead_replica.callable import Method, UserCallable
from fairlead_replica.typed.conversions import Conversion, conversion_of
from fairlead_replica.typed.messages import MessageTypes

logger = logging.getLogger(__name__)

CONTEXT = "grpc_context"
"""The name of the parameter that gets the context (Ray Serve's)."""


class Rpc:
    """One RPC and the user's method for it."""

    __slots__ = ("_by_name", "_by_place", "client_streaming", "codec", "conversion", "method", "path", "stream")

    def __init__(self, path: str, method: Method, conversion: Conversion, client_streaming: bool, stream: bool) -> None:
        self.path = path
        self.method = method
        self.conversion = conversion
        self.client_streaming = client_streaming
        self.stream = stream
        self.codec = Codec(
            name="protobuf",
            serialization=session_pb2.SERIALIZATION_PROTOBUF,
            media_type="application/protobuf",
            runs_code=False,
            dumps=conversion.dump,
            loads=conversion.item,
        )
        self._by_name = takes_context(method.call)
        self._by_place = not self._by_name and not conversion.parameters_are_fields and _takes_two(method.call)

    def __repr__(self) -> str:
        return f"<Rpc {self.path} {self.method!r}>"

    def arguments(self, payload: bytes, items: Any, context: gRPCContext) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the method is called with; ``items``: the caller's stream. Raises InvalidArgumentsError."""
        args: tuple[Any, ...]
        kwargs: dict[str, Any] = {}
        if self.client_streaming:
            args = (items,)
        else:
            try:
                args, kwargs = self.conversion.arguments(payload)
            except InvalidArgumentsError:
                raise
            except Exception as error:
                raise InvalidArgumentsError(f"the payload is not a valid message of {self.path}: {error}") from error
        if self._by_name:
            kwargs[CONTEXT] = context
        elif self._by_place:
            args = (*args, context)
        return args, kwargs


class TypedServices:
    """The RPCs of a deployment's services, found once each. Belongs to one event loop."""

    def __init__(self, interface: control_pb2.DeploymentInterface, target: UserCallable) -> None:
        """Raises KeyError for a service that the descriptor set lacks."""
        self._interface = interface
        self._target = target
        self._types = MessageTypes(interface.descriptor_set, interface.message_modules)
        self._services = {service.name: service for service in interface.typed_services}
        self._descriptors = {name: self._types.service(name) for name in self._services}
        self._rpcs: dict[str, Rpc] = {}
        self._give_contexts()

    def __repr__(self) -> str:
        return f"<TypedServices {sorted(self._services)}>"

    def find(self, path: str) -> Rpc:
        """The RPC ``/package.Service/Method``.

        Raises RpcAborted with UNIMPLEMENTED for one that the user's class has no method for.
        """
        rpc = self._rpcs.get(path)
        if rpc is None:
            rpc = self._rpcs[path] = self._made(path)
        return rpc

    def _made(self, path: str) -> Rpc:
        service_name, _, name = path.removeprefix("/").partition("/")
        service = self._descriptors.get(service_name)
        descriptor = None if service is None else service.methods_by_name.get(name)
        if descriptor is None:
            raise RpcAborted(grpc.StatusCode.UNIMPLEMENTED, f"{path} is not served here")
        try:
            method = self._target.method(self._services[service_name].methods.get(name, name))
        except MethodNotFoundError as error:
            raise RpcAborted(grpc.StatusCode.UNIMPLEMENTED, f"{path} is not implemented") from error
        conversion = conversion_of(self._interface, self._types, descriptor, self._target.target)
        if conversion.opens_with_parameters:
            method = _opened(method, conversion)
        return Rpc(path, method, conversion, descriptor.client_streaming, descriptor.server_streaming)

    def _give_contexts(self) -> None:
        """Handles call the same methods without a gRPC call around them: a context is made for them."""
        for name, service in self._services.items():
            for rpc in self._descriptors[name].methods:
                own = service.methods.get(rpc.name, rpc.name)
                try:
                    method = self._target.method(own)
                except MethodNotFoundError:
                    continue
                if takes_context(method.call):
                    self._target.substitute(own, method.replaced(_with_context(method.call)))


def _opened(method: Method, conversion: Any) -> Method:
    """A method that takes more than a stream: few replicas have one, so what it needs is imported here."""
    from fairlead_replica.typed.openings import opened

    return opened(method, conversion)


def takes_context(call: Callable[..., Any]) -> bool:
    """Whether a method has a parameter of the name ``grpc_context``."""
    parameter = _parameters(call).get(CONTEXT)
    return parameter is not None and parameter.kind is not parameter.POSITIONAL_ONLY


def _takes_two(call: Callable[..., Any]) -> bool:
    """Whether a method wants a second argument, as those of generated servicers do: request and context."""
    wanted = [
        parameter
        for parameter in _parameters(call).values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return len(wanted) >= 2 and wanted[1].default is inspect.Parameter.empty


def _parameters(call: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(call).parameters)
    except (TypeError, ValueError):  # builtins without a signature
        return {}


def _with_context(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def called(*args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault(CONTEXT, gRPCContext())
        return call(*args, **kwargs)

    return called
