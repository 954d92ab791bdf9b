"""``@serve.ingress``: a class whose HTTP side is an ASGI application, which runs in the replica beside the instance."""

from __future__ import annotations

import contextlib
import copyreg
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints, overload

from fairlead.serve.deployment import Deployment
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError

T = TypeVar("T")

INGRESS = "__fairlead_ingress__"
"""The attribute of a class that holds its :class:`Ingress`."""
VIEW = "__fairlead_view__"
"""The attribute that marks functions of such classes: they need an instance, and run for their own class only."""
BUILD = "__serve_build_asgi_app__"
"""The method that makes the application of a class that was given none."""


@dataclass(frozen=True, slots=True)
class Ingress:
    """Where a class's ASGI application comes from."""

    app: Any
    """The application, a function without parameters that returns it, or None: the instance's ``BUILD`` method."""

    def build(self, instance: Any) -> Any:
        """The application for an instance. Raises TypeError for what is none."""
        make = getattr(instance, BUILD) if self.app is None else self.app
        app = make() if self.app is None or _is_builder(make) else make
        if not callable(app):
            raise TypeError(f"an ASGI application must be callable, which {app!r} is not")
        return app


class IngressDecorator:
    """``@serve.ingress(app)``, waiting for the class."""

    def __init__(self, app: Any) -> None:
        self._app = app

    @overload
    def __call__(self, cls: type[T]) -> type[T]: ...
    @overload
    def __call__(self, cls: None = None) -> type[Any]: ...
    def __call__(self, cls: Any = None) -> Any:
        """The class, marked; without one a new class that has nothing but the application.

        Raises ValueError for what is no class, for a class with a ``__call__``, and where there is no application.
        """
        if cls is None:

            class ASGIIngress:
                """Nothing but an ASGI application."""

            cls = ASGIIngress
        if isinstance(cls, Deployment):
            raise ValueError("@serve.ingress must stand below @serve.deployment")  # noqa: TRY004 - as Ray Serve
        if not isinstance(cls, type):
            raise ValueError(f"@serve.ingress must be used with a class, not {cls!r}")  # noqa: TRY004
        if any("__call__" in vars(base) for base in cls.__mro__):
            raise ValueError(
                f"the class passed to @serve.ingress may not have a __call__ method: {cls.__qualname__} has"
            )
        if self._app is None and not hasattr(cls, BUILD):
            raise ValueError(f"@serve.ingress() needs an application, or the method {BUILD} in {cls.__qualname__}")
        for member in (value for base in cls.__mro__[:-1] for value in vars(base).values()):
            if callable(member) and not isinstance(member, type):
                with contextlib.suppress(AttributeError, TypeError):
                    setattr(member, VIEW, True)
        setattr(cls, INGRESS, Ingress(self._app))
        return cls


def ingress(app: Any = None) -> IngressDecorator:
    """Has an ASGI application answer the HTTP requests and WebSockets of a class.

    ``app``: a FastAPI application or APIRouter, a Starlette application, any ASGI callable, or a function without
    parameters that returns one in the replica. Methods of the class that are FastAPI endpoints get the replica's
    instance as ``self``. Without ``app`` the class has a method ``__serve_build_asgi_app__`` that returns it.

    Raises TypeError for what is none of these.
    """
    if app is not None and not callable(app):
        raise TypeError(f"@serve.ingress takes an ASGI application, not {app!r}; write @serve.ingress(app)")
    if isinstance(app, type):
        raise TypeError(f"@serve.ingress takes an ASGI application, not the class {app!r}; write @serve.ingress(app)")
    _make_states_picklable()
    return IngressDecorator(app)


def describe(func_or_class: Any, interface: control_pb2.DeploymentInterface) -> None:
    """Says that a deployment answers HTTP by an ASGI application, if it does. Its class can travel by value then."""
    ingress = getattr(func_or_class, INGRESS, None)
    if isinstance(ingress, Ingress):
        interface.asgi = True
        members = (value for base in func_or_class.__mro__[:-1] for value in vars(base).values())
        routes = (route for router in routers_of(ingress.app) for route in router.routes)
        for function in (*members, *(getattr(route, "endpoint", None) for route in routes)):
            _resolve_hints(function)


def check_one(specs: Iterable[control_pb2.DeploymentSpec]) -> None:
    """Raises FairleadError if several deployments of an application have ASGI applications: one can be reached.

    ValueError if one has routes beside it.
    """
    names = []
    for spec in specs:
        if spec.interface.asgi:
            names.append(spec.name)
            if spec.interface.http_routes:
                raise ValueError(f"deployment {spec.name!r} has both @serve.ingress and @serve.route: use one of them")
    if len(names) > 1:
        raise FairleadError(
            f"Found multiple deployments with @serve.ingress in the application: {', '.join(names)}. HTTP requests go "
            "to one of them only; the others are called by handles and need none."
        )


def routers_of(app: Any) -> Iterator[Any]:
    """The router of an application of Starlette's or FastAPI's, and those that it includes."""
    router = getattr(app, "router", app)
    routes = getattr(router, "routes", None)
    if not isinstance(routes, list):
        return
    yield router
    for route in routes:
        included = getattr(route, "original_router", None)  # newer FastAPIs keep them; older ones copy their routes
        if included is not None:
            yield from routers_of(included)


def _resolve_hints(function: Any) -> None:
    """Makes types of hints that are text. In a replica, a function that came by value has only what its code names."""
    if not inspect.isfunction(function) or not any(isinstance(hint, str) for hint in function.__annotations__.values()):
        return
    with contextlib.suppress(Exception):  # what cannot be resolved here is FastAPI's to complain of
        function.__annotations__ = get_type_hints(function, include_extras=True)


def ingress_of(instance: Any) -> Ingress | None:
    """What ``@serve.ingress`` has noted at the class of an instance; None: nothing."""
    found = getattr(type(instance), INGRESS, None)
    return found if isinstance(found, Ingress) else None


def _make_states_picklable() -> None:
    """Applications of ``__main__`` travel by value, and each has a Starlette ``State``, which pickle cannot make again.

    It looks for ``__setstate__`` in the new object, whose ``__getattr__`` looks for what is not there yet, without end.
    """
    datastructures = sys.modules.get("starlette.datastructures")
    if datastructures is not None:
        copyreg.pickle(datastructures.State, _reduce_state)


def _reduce_state(state: Any) -> tuple[Any, ...]:
    return type(state), (vars(state)["_state"],)


def _is_builder(app: Callable[..., Any]) -> bool:
    if not inspect.isroutine(app):
        return False
    try:
        return not inspect.signature(app).parameters
    except (TypeError, ValueError):
        return False
