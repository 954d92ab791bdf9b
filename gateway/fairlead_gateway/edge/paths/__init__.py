"""The route of a path and a method, in two dialects: Starlette's paths and google.api.http's templates. Pure."""

from fairlead_gateway.edge.paths.converters import BUILTIN, Converter
from fairlead_gateway.edge.paths.errors import DuplicateRouteError, PathError, PatternError, UnknownConverterError
from fairlead_gateway.edge.paths.results import Found, MethodNotAllowed, NotFound, OptionsAnswer, Redirect, Result
from fairlead_gateway.edge.paths.route import ANY_METHOD, Route
from fairlead_gateway.edge.paths.router import PathRouter
from fairlead_gateway.edge.paths.starlette_path import StarlettePath
from fairlead_gateway.edge.paths.template import Template

__all__ = [
    "ANY_METHOD",
    "BUILTIN",
    "Converter",
    "DuplicateRouteError",
    "Found",
    "MethodNotAllowed",
    "NotFound",
    "OptionsAnswer",
    "PathError",
    "PathRouter",
    "PatternError",
    "Redirect",
    "Result",
    "Route",
    "StarlettePath",
    "Template",
    "UnknownConverterError",
]
