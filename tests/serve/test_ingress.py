from __future__ import annotations

from typing import Annotated, Any

import cloudpickle
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from fairlead import serve
from fairlead.serve.exceptions import RayServeException
from fairlead.serve.graph import application_spec
from fairlead.serve.ingress import Ingress, ingress_of
from fairlead.serve.interface import interface_of


async def raw(scope: Any, receive: Any, send: Any) -> None: ...


def build() -> FastAPI:
    return FastAPI()


@pytest.mark.parametrize("app", [FastAPI(), APIRouter(), raw, build])
def test_a_class_is_marked(app: Any) -> None:
    @serve.ingress(app)
    class Shop:
        pass

    assert ingress_of(Shop()) == Ingress(app)
    interface = interface_of(Shop)
    assert interface is not None
    assert interface.asgi


def test_subclasses_and_pickles_keep_the_mark() -> None:
    @serve.ingress(raw)
    class Shop:
        pass

    class More(Shop):
        pass

    assert ingress_of(More()) is not None
    assert ingress_of(cloudpickle.loads(cloudpickle.dumps(Shop))()) is not None


def test_fastapi_applications_travel_by_value() -> None:
    app = FastAPI()
    app.state.word = "kept"

    @serve.ingress(app)
    class Shop:
        @app.get("/")
        def get(self) -> str:
            return "got"

    copy = cloudpickle.loads(cloudpickle.dumps(Shop))
    ingress = ingress_of(copy())
    assert ingress is not None
    assert ingress.app is not app
    assert ingress.app.state.word == "kept"
    assert ingress.app.routes[-1].endpoint is vars(copy)["get"], "so that it is known for a method"


class Order(BaseModel):
    name: str


def test_hints_that_are_text_travel_as_types() -> None:
    app, router = FastAPI(), APIRouter()

    @router.get("/plain")
    def plain(order: Order) -> Order:
        return order

    app.include_router(router)

    @serve.ingress(app)
    class Shop:
        @app.get("/")
        def get(self, order: Order | None, unknown: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        @app.get("/order")
        def order(self, order: Annotated[Order, "kept"]) -> None: ...

    interface_of(Shop)
    assert plain.__annotations__ == {"order": Order, "return": Order}
    assert vars(Shop)["order"].__annotations__["order"] == Annotated[Order, "kept"]
    assert vars(Shop)["get"].__annotations__["unknown"] == "Nowhere", "left as it was"


def test_the_class_may_be_left_out() -> None:
    made = serve.ingress(raw)()
    assert ingress_of(made()) == Ingress(raw)
    assert serve.deployment(made).bind().deployment.name == "ASGIIngress"


def test_a_builder_is_called_and_an_application_is_not() -> None:
    assert isinstance(Ingress(build).build(None), FastAPI)
    assert Ingress(raw).build(None) is raw
    with pytest.raises(TypeError, match="must be callable, which None"):
        Ingress(lambda: None).build(None)


def test_the_class_may_build_it_itself() -> None:
    @serve.ingress()
    class Shop:
        def __serve_build_asgi_app__(self) -> Any:
            return raw

    ingress = ingress_of(Shop())
    assert ingress is not None
    assert ingress.build(Shop()) is raw


def test_what_cannot_be() -> None:
    class Called:
        def __call__(self) -> None: ...

    class Inherits(Called):
        pass

    for cls in (Called, Inherits):
        with pytest.raises(ValueError, match="may not have a __call__"):
            serve.ingress(raw)(cls)
    with pytest.raises(ValueError, match="must be used with a class"):
        serve.ingress(raw)(build)  # type: ignore[type-var]
    with pytest.raises(ValueError, match=r"below @serve\.deployment"):
        serve.ingress(raw)(serve.deployment(type("Shop", (), {})))  # type: ignore[type-var]
    with pytest.raises(ValueError, match="__serve_build_asgi_app__"):
        serve.ingress()(type("Shop", (), {}))
    for app in (Called, 5):
        with pytest.raises(TypeError, match=r"write @serve\.ingress\(app\)"):
            serve.ingress(app)


def test_a_plain_class_is_none() -> None:
    class Plain:
        pass

    assert ingress_of(Plain()) is None
    assert interface_of(Plain) is None


def test_an_application_has_one() -> None:
    class Child:
        pass

    class Shop:
        def __init__(self, child: Any) -> None: ...

    child = serve.deployment(serve.ingress(raw)(Child))
    shop = serve.deployment(serve.ingress(raw)(Shop))
    assert application_spec(shop.bind(serve.deployment(Plain).bind()))
    with pytest.raises(RayServeException, match=r"multiple deployments .* in the application: Child, Shop"):
        application_spec(shop.bind(child.bind()))


def test_routes_and_an_application_exclude_each_other() -> None:
    @serve.ingress(raw)
    class Shop:
        @serve.route("/x")
        def get(self) -> None: ...

    with pytest.raises(ValueError, match=r"'Shop' has both @serve\.ingress and @serve\.route"):
        application_spec(serve.deployment(Shop).bind())


class Plain:
    pass
