"""HTTP options and ASGI applications that cannot be: whoever starts them is told why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from fairlead import serve


class Broken:
    def __init__(self, app: Any) -> None:
        raise ValueError("never made")


async def fail() -> None:
    raise ValueError("no database")


class Lifespan:
    """Fails to start."""

    def __init__(self, app: Any) -> None: ...

    async def __aenter__(self) -> None:
        await fail()

    async def __aexit__(self, *exc: object) -> None: ...


@serve.deployment(max_constructor_retry_count=1)
@serve.ingress(Starlette(lifespan=Lifespan))  # type: ignore[arg-type]
class Shop:
    pass


def test_middlewares_that_cannot_be_made(state_directory: Path) -> None:
    options = {"port": 0, "middlewares": [Middleware(Broken)]}
    with pytest.raises(RuntimeError, match="cannot make the HTTP middleware Broken: ValueError: never made"):
        serve.start(http_options=options, grpc_options={"port": 0})


def test_a_startup_that_fails(state_directory: Path) -> None:
    serve.start(proxy_location="Disabled")
    try:
        with pytest.raises(
            RuntimeError, match=r"the ASGI application's startup failed: (?s:.*)ValueError: no database"
        ):
            serve.run(Shop.bind())
    finally:
        serve.shutdown()
