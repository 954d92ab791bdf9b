"""FastAPI's class-based endpoints: routes whose functions are methods of the user's class, bound to the instance.

FastAPI is not imported: whoever uses it has.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import sys
from typing import Any

from fairlead.serve.ingress import VIEW, routers_of
from fairlead.wire.errors import BackPressureError, DeploymentUnavailableError
from fairlead.wire.outcomes import outcome_of

_OTHERS = "__fairlead_others__"
"""The attribute of a router with the routes of other classes, which were taken out."""


def prepare(app: Any, instance: Any) -> Any:
    """The application, ready to serve for an instance of the user's class.

    Its endpoints that are methods of the class get the instance as ``self``; those of other classes, which share the
    application, are taken out. An APIRouter becomes an application. Errors of calls to other deployments get responses
    of their own, unless the application handles them.
    """
    fastapi = sys.modules.get("fastapi")
    if fastapi is not None and isinstance(app, fastapi.APIRouter):
        router, app = app, fastapi.FastAPI()
        app.include_router(router)
    for router in routers_of(app):
        _bind(router, app, instance)
    handled = getattr(app, "exception_handlers", None)
    if isinstance(handled, dict) and hasattr(app, "add_exception_handler"):
        for error in (BackPressureError, DeploymentUnavailableError):
            if error not in handled:
                app.add_exception_handler(error, _refusal)
    return app


def _bind(router: Any, app: Any, instance: Any) -> None:
    """Also of an application that was bound before, in the one process of local testing: to another instance."""
    bound = []
    others: list[Any] = []
    for route in [*router.routes, *vars(router).get(_OTHERS, ())]:
        endpoint = getattr(route, "endpoint", None)
        function = getattr(endpoint, "__func__", endpoint)
        if function is None or not hasattr(route, "dependant"):
            bound.append(route)
        elif _is_member(function, type(instance)):
            bound.append(_with_endpoint(route, function.__get__(instance, type(instance)), app))
        else:
            (others if getattr(function, VIEW, False) else bound).append(route)
    if bound != router.routes:
        router.routes[:] = bound
        setattr(router, _OTHERS, others)
        with contextlib.suppress(AttributeError):
            router._mark_routes_changed()


def _is_member(endpoint: Any, cls: type) -> bool:
    """Whether a function is a method of a class; a further decorator above the route's may hide it."""
    for base in cls.__mro__[:-1]:
        if any(value is endpoint for value in vars(base).values()):
            return True
        path, _, name = getattr(endpoint, "__qualname__", "").rpartition(".")
        if (path, getattr(endpoint, "__module__", None)) == (base.__qualname__, base.__module__) and name in vars(base):
            return True
    return False


def _with_endpoint(route: Any, endpoint: Any, app: Any) -> Any:
    """The same route to another function. FastAPI has looked at a function's parameters when a route is made."""
    kind = type(route)
    known = _parameters(kind) - {"self", "path", "endpoint", "response_model"}
    given = {name: getattr(route, name) for name in known if hasattr(route, name)}
    if "dependency_overrides_provider" in known:
        given.setdefault("dependency_overrides_provider", app)
    made = kind(route.path, endpoint, **given)
    if getattr(made, "response_model", None) != getattr(route, "response_model", None):  # not what it would infer
        made = kind(route.path, endpoint, response_model=route.response_model, **given)
    return made


def _parameters(kind: type) -> set[str]:
    """The names that a class of routes takes; subclasses often pass on whatever they get."""
    names: set[str] = set()
    for base in kind.__mro__:
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        names |= {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return names


async def _refusal(request: Any, error: Exception) -> Any:
    """What a caller gets to see of a call that another deployment did not take: as where the gateway answers."""
    from google.protobuf.json_format import MessageToDict
    from starlette.responses import JSONResponse

    status, headers = DeploymentUnavailableError.http_status, {}
    if isinstance(error, BackPressureError):
        status = error.status_code
        if error.retry_after_s is not None:
            headers["retry-after"] = str(math.ceil(error.retry_after_s))
    return JSONResponse(MessageToDict(outcome_of(error, trusted=False).status), status, headers)
