"""A request bound to the parameters of a method: its path, query and body by name, converted by type hints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fairlead.serve.routes.declaration import RoutedMethod
from fairlead.serve.routes.parameters import Parameter, Plan, Source, plan_of
from fairlead.v1 import http_pb2
from fairlead.wire.errors import MethodNotFoundError
from fairlead_replica.routed import documents, query
from fairlead_replica.routed.conversion import Conversion
from fairlead_replica.routed.problems import BadRequestError, Problem

_MISSING = Problem("", "is missing")


class Binding:
    """One route of one method. Immutable; any thread may bind at any time."""

    def __init__(self, method: RoutedMethod, path: str) -> None:
        """Raises MethodNotFoundError if the method has no such route, TypeError for hints that nothing converts to."""
        declaration = next((each for each in method.declarations if each.path == path), None)
        if declaration is None:
            raise MethodNotFoundError(f"the method {method} has no route {path!r}")
        self.plan: Plan = plan_of(method, declaration)
        self._captures = declaration.starlette_path().parameters
        self._own = frozenset(each.name for each in self._captures if not each.converter.language)
        self._in_path = self.plan.of(Source.PATH)
        self.conversions = {each.name: Conversion(each) for each in self.plan.of(*_CONVERTED)}
        self.inputs = self.plan.of(Source.NAMED, Source.STRUCTURED)

    def bind(self, message: http_pb2.HttpRequest, request: Any) -> tuple[list[Any], dict[str, Any]]:
        """The arguments. ``request``: the Starlette request, which gets its ``path_params``.

        Raises BadRequestError with every problem, UnknownSerializationError for a body that is not JSON, and
        MethodNotFoundError if a user's converter does not take its part of the path.
        """
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        if self._captures:
            captured = request.scope["path_params"] = self._captured(message.path_params)
            values = self._path_values(message.path_params, captured, problems)
        if self.inputs:
            _Inputs(self, message, values, problems).add()
        if problems:
            raise BadRequestError(sorted(problems, key=lambda problem: _PARTS.index(problem.field[:4])))
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self.plan.parameters:
            value = request if parameter.source is Source.REQUEST else values.get(parameter.name, _MISSING)
            if parameter.positional:
                args.append(parameter.default if value is _MISSING else value)
            elif value is not _MISSING:
                kwargs[parameter.name] = value
        return args, kwargs

    def _captured(self, texts: Mapping[str, str]) -> dict[str, Any]:
        try:
            return {each.name: each.converter.convert(texts[each.name]) for each in self._captures}
        except ValueError as error:
            raise MethodNotFoundError("no route matches the path") from error

    def _path_values(
        self, texts: Mapping[str, str], captured: dict[str, Any], problems: list[Problem]
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for parameter in self._in_path:
            name = parameter.name
            if parameter.hint is Any or name in self._own:
                values[name] = captured[name]
                continue
            try:
                values[name] = self.conversions[name].of_text(texts[name], f"path.{name}")
            except BadRequestError as error:
                problems += error.problems
        return values


_PARTS = ("path", "quer", "body")
"""How the fields of problems begin, in the order in which they are listed."""
_CONVERTED = (Source.PATH, Source.NAMED, Source.STRUCTURED)


class _Inputs:
    """What one request gives in its query and its body. Adds to ``values`` and ``problems``."""

    def __init__(
        self, binding: Binding, message: http_pb2.HttpRequest, values: dict[str, Any], problems: list[Problem]
    ) -> None:
        self._binding = binding
        self._message = message
        self._values = values
        self._problems = problems
        self._members: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._failed: set[str] = set()
        """Parameters about which nothing more is to be said."""

    def add(self) -> None:
        """Reads both and adds a value for each parameter that is given."""
        binding = self._binding
        try:
            self._texts = query.parse(self._message.query_string) if self._message.query_string else {}
        except BadRequestError as error:
            self._fail(error, binding.plan.of(Source.NAMED))
        if self._message.body:
            self._read_body(self._message.body)
        for parameter in binding.inputs:
            if parameter.name not in self._values:
                self._add(parameter)

    def _fail(self, error: BadRequestError, parameters: Iterable[Parameter]) -> None:
        self._problems += error.problems
        self._failed.update(parameter.name for parameter in parameters)

    def _read_body(self, body: bytes) -> None:
        """The members of the body by name; a body that is one parameter's becomes its value."""
        binding, whole = self._binding, self._binding.plan.whole
        documents.check_media_type(self._message.headers)
        try:
            value = documents.parse(body)
        except BadRequestError as error:
            return self._fail(error, binding.inputs)
        if isinstance(value, dict) and not (whole is not None and _takes_object(whole, value)):
            self._members = value
            return None
        if whole is None:
            names = ", ".join(repr(parameter.name) for parameter in binding.inputs)
            problem = Problem("body", f"must be a JSON object with the members {names}")
            return self._fail(BadRequestError([problem]), binding.inputs)
        try:
            self._values[whole.name] = binding.conversions[whole.name].of_body(body, "body")
        except BadRequestError as error:
            self._fail(error, [whole])
        return None

    def _add(self, parameter: Parameter) -> None:
        name = parameter.name
        given = self._texts.get(name) if parameter.source is Source.NAMED else None
        conversion = self._binding.conversions[name]
        try:
            if name in self._members:
                if given is not None:
                    raise BadRequestError([Problem(f"query.{name}", "is given in the body, too")])
                self._values[name] = conversion.of_member(self._members[name], f"body.{name}")
            elif given is not None:
                self._values[name] = conversion.of_texts(given, f"query.{name}")
            elif parameter.required and name not in self._failed:
                raise BadRequestError([Problem(self._expected(parameter), "is missing")])
        except BadRequestError as error:
            self._problems += error.problems

    def _expected(self, parameter: Parameter) -> str:
        """Where a missing parameter should have been in the first place."""
        if parameter.source is Source.STRUCTURED:
            return "body" if parameter is self._binding.plan.whole else f"body.{parameter.name}"
        return f"{'body' if self._members else 'query'}.{parameter.name}"


def _takes_object(whole: Parameter, value: dict[str, Any]) -> bool:
    """Whether an object is the parameter's value itself and not one that holds it by its name."""
    if whole.source is not Source.STRUCTURED:
        return False
    return whole.shape.open or whole.name in whole.shape.fields or whole.name not in value
