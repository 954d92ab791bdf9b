"""The route of a path and a method, in two dialects: Starlette's paths and google.api.http's templates. Pure."""

from fairlead.paths.converters import BUILTIN, Converter
from fairlead.paths.errors import DuplicateRouteError, PathError, PatternError, UnknownConverterError
from fairlead.paths.results import Found, MethodNotAllowed, NotFound, OptionsAnswer, Redirect, Result
from fairlead.paths.route import ANY_METHOD, Route
from fairlead.paths.router import PathRouter
from fairlead.paths.starlette_path import StarlettePath
from fairlead.paths.template import Template

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
