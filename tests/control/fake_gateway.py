"""A gateway worker that follows its watch, acknowledges everything, and routes nothing.

Its HTTP "port" stays what it was told, or becomes 8123. ``FAKE_BIND_FAILURE`` has it fail as if the port were taken.
"""

import argparse
import asyncio
import os
import sys

import grpc.aio

from fairlead.lifetime import process_ended
from fairlead.v1 import control_pb2, control_pb2_grpc


async def beat(call, about):
    while True:
        await asyncio.sleep(0.5)
        await call.write(about)


async def live(arguments):
    about = control_pb2.WatchRequest(
        gateway_id=arguments.gateway_id, pid=os.getpid(), trusted_address=f"unix:{arguments.socket}"
    )
    if arguments.http_port is not None:
        about.http_address = f"{arguments.http_host}:{arguments.http_port or 8123}"
    async with grpc.aio.insecure_channel(arguments.controller) as channel:
        call = control_pb2_grpc.ControlServiceStub(channel).Watch()
        await call.write(about)
        beating = asyncio.create_task(beat(call, about))
        while (snapshot := await call.read()) is not grpc.aio.EOF:
            if snapshot.drain:
                return
            about.applied_version = snapshot.version
            await call.write(about)
        beating.cancel()


async def main():
    parser = argparse.ArgumentParser()
    for name in ("controller", "gateway-id", "socket", "http-host", "grpc-host"):
        parser.add_argument(f"--{name}")
    for name in ("http-port", "grpc-port", "owner-pid"):
        parser.add_argument(f"--{name}", type=int)
    arguments = parser.parse_args()
    if os.environ.get("FAKE_BIND_FAILURE"):
        print("cannot bind 127.0.0.1:80: Permission denied", file=sys.stderr)
        sys.exit(3)
    life = asyncio.create_task(live(arguments))
    owner = asyncio.create_task(process_ended(arguments.owner_pid or os.getppid()))
    await asyncio.wait([life, owner], return_when=asyncio.FIRST_COMPLETED)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
