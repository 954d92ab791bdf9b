"""HTTP requests to messages: path, query and body of one binding, compiled when the route table changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import EncodeError, Message

from fairlead.paths.rules import HTTP_BODY, HttpBinding, mask_of
from fairlead_gateway.edge.protojson import JsonRefused, document
from fairlead_gateway.edge.protojson.stores import message_of
from fairlead_gateway.edge.typed.parameters import Parameter, ParameterSet
from fairlead_gateway.edge.typed.queries import QueryBinder
from fairlead_gateway.edge.typed.rpc_method import RpcMethod
from fairlead_gateway.edge.typed.update_mask import mask_paths


class RequestPlan:
    """Makes the request messages of one binding. Used by one event loop.

    Every method raises JsonRefused for what does not fit: the caller's fault.
    """

    def __init__(self, method: RpcMethod, binding: HttpBinding) -> None:
        input_type = method.descriptor.input_type
        self.binding = binding
        self._decoder = method.json.decoder(input_type)
        self._whole = binding.body == "*"
        self._field: FieldDescriptor | None = None if self._whole else input_type.fields_by_name.get(binding.body)
        self.raw = (self._whole and input_type.full_name == HTTP_BODY) or _is_http_body(self._field)
        """Whether the body is one of a ``google.api.HttpBody``: bytes of whatever type."""
        self.takes_body = bool(binding.body)
        parameters = ParameterSet(input_type)
        self._path = _path_parameters(binding, parameters)
        bound = [parameter.path for _, parameter in self._path]
        if self._field is not None:
            bound.append((self._field.name,))
        self._query = QueryBinder(
            parameters, bound, all_bound=self._whole, ignored=frozenset(method.options.ignored_query_parameters)
        )
        self._mask = mask_of(method.descriptor, binding)

    def message(self, params: Mapping[str, str], query: bytes, body: bytes, content_type: str) -> bytes:
        """The message of a whole request, as protobuf encodes it."""
        if self.raw:
            return self._serialized(self._raw_message(self._bound({}, params, query), body, content_type))
        if not body:
            tree: Any = {}
        elif not self.takes_body:
            raise JsonRefused("the request has a body, and takes none")
        else:
            tree = document(body)
        return self.of_tree(tree, params, query, given=bool(body))

    def of_tree(self, tree: Any, params: Mapping[str, str], query: bytes, *, given: bool = True) -> bytes:
        """The same of a body's JSON. ``given``: whether there was a body."""
        mask = list(mask_paths(tree, message_of(self._field))) if self._mask and self._field is not None else ()
        if self._field is not None:
            tree = {self._field.json_name: tree} if given else {}
        message = self._decoder.message(self._bound(tree, params, query))
        if mask:
            asked: Any = getattr(message, self._mask)
            if not asked.paths:
                asked.paths.extend(mask)
        return self._serialized(message)

    def further(self, tree: Any) -> bytes:
        """A message of a stream after the first: path and query are in that one."""
        return self._serialized(self._decoder.message(tree if self._field is None else {self._field.json_name: tree}))

    def piece(self, params: Mapping[str, str] | None, query: bytes, piece: bytes, content_type: str) -> bytes:
        """A piece of an upload as a message of a stream; ``params`` None: not the first one."""
        tree = {} if params is None else self._bound({}, params, query)
        return self._serialized(self._raw_message(tree, piece, content_type if params is not None else ""))

    def _bound(self, tree: Any, params: Mapping[str, str], query: bytes) -> Any:
        if not self._path and not query:
            return tree
        if type(tree) is not dict:
            raise JsonRefused("must be an object")
        for name, parameter in self._path:
            parameter.put(tree, parameter.value(params[name]))
        if query:
            self._query.bind(query, tree)
        return tree

    def _raw_message(self, tree: dict[str, Any], body: bytes, content_type: str) -> Message:
        message = self._decoder.message(tree)
        http_body: Any = message if self._field is None else getattr(message, self._field.name)
        http_body.data = body
        http_body.content_type = content_type
        return message

    @staticmethod
    def _serialized(message: Message) -> bytes:
        try:
            payload: bytes = message.SerializeToString()
        except EncodeError as error:
            raise JsonRefused("lacks a required field, or is nested too deeply") from error
        return payload


def _is_http_body(field: FieldDescriptor | None) -> bool:
    if field is None or field.message_type is None or field.is_repeated:
        return False
    return bool(field.message_type.full_name == HTTP_BODY)


def _path_parameters(binding: HttpBinding, parameters: ParameterSet) -> list[tuple[str, Parameter]]:
    found = []
    for variable in binding.template.variables:
        known = parameters.find(variable.field_path)
        assert known is not None, "rules are checked before they come here"
        found.append((variable.field_path, known[0]))
    return found
