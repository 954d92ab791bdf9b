"""aiohttp in several workers: ``gunicorn aiohttp_app:app --worker-class aiohttp.GunicornWebWorker --workers 2``."""

from __future__ import annotations

import os

from aiohttp import web

from fairlead import serve

# Made at import, before gunicorn's workers are forked if it preloads; each worker connects for itself.
my_handle = serve.get_handle("my_endpoint")
generator = serve.get_app_handle("generator")


async def dummy_model(request: web.Request) -> web.Response:
    """The classic handle: its response can be awaited in any event loop."""
    return web.Response(text=await my_handle.remote("dummy input"), headers={"X-Worker": str(os.getpid())})


async def generate(request: web.Request) -> web.Response:
    return web.json_response(await generator.remote(request.query.get("query", "")))


app = web.Application()
app.add_routes([web.get("/dummy-model", dummy_model), web.get("/generate", generate)])
