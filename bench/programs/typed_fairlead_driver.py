"""Fairlead's side where a typed service is called: ``python -m bench.programs.typed_fairlead_driver FOLDER``."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module

from bench.programs.commands import obey, say
from fairlead import serve
from fairlead.serve.api import instance_status


async def main() -> None:
    (gateway,) = instance_status().gateways
    say(grpc=gateway.grpc_address, http=gateway.http_address)
    await obey({})


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])  # the compiled schema; replicas get this program's sys.path
    serve.start(http_options={"port": 0}, grpc_options={"port": 0})
    try:
        serve.run(import_module("bench.echo_service").app, name="typed")
        asyncio.run(main())
    finally:
        serve.shutdown()
