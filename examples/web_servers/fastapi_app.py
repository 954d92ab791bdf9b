"""FastAPI under ``uvicorn fastapi_app:app``, or in workers of gunicorn's: ``--worker-class asgi --workers 2``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse

from fairlead import serve


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.generator = serve.get_app_handle("generator")
    app.state.my_handle = serve.get_handle("my_endpoint", sync=False)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/generate")
async def generate(query: str) -> Any:
    return await app.state.generator.remote(query)


@app.get("/dummy-model", response_class=PlainTextResponse)
async def dummy_model(answer: Response) -> Any:
    answer.headers["X-Worker"] = str(os.getpid())
    response = await app.state.my_handle.remote("dummy input")  # the asynchronous kind gives the response first
    return await response
