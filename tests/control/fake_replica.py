"""A replica that speaks the lease protocol and serves nothing. What it does is named by its import path.

``fake:ready`` becomes ready; ``fake:fail`` reports a failure; ``fake:crash`` ends at once; ``fake:stubborn`` is ready
and ignores orders to drain; ``fake:sick`` becomes ready and fails its health checks.
"""

import argparse
import asyncio
import os
import sys

import grpc.aio

from fairlead.lifetime import process_ended
from fairlead.v1 import control_pb2, replica_pb2, replica_pb2_grpc


def say(**event):
    return replica_pb2.RegisterRequest(**event)


async def hang_up(call):
    """Ends the lease, and waits until the controller has heard all of it."""
    await call.done_writing()
    while await call.read() is not grpc.aio.EOF:
        pass


async def live(arguments):
    async with grpc.aio.insecure_channel(arguments.controller) as channel:
        call = replica_pb2_grpc.ReplicaServiceStub(channel).Register()
        await call.write(say(hello=replica_pb2.ReplicaHello(replica_id=arguments.replica_id, pid=os.getpid())))
        assignment = (await call.read()).assignment
        behaviour = assignment.deployment.import_path.partition(":")[2]
        print(f"I am to be {behaviour} with {os.environ.get('FLAVOUR')} in {os.getcwd()}")
        if behaviour == "crash":
            print("dying", end="")
            sys.stdout.flush()
            os._exit(7)
        if behaviour == "fail":
            await call.write(say(failed=replica_pb2.ReplicaFailed(message="no", traceback="Traceback\nValueError: no")))
            await hang_up(call)
            return
        if behaviour == "sick":
            await call.write(say(ready=replica_pb2.ReplicaReady(address=f"unix:{assignment.socket_path}")))
            await call.write(say(report=replica_pb2.ReplicaReport(failed_health_checks=3, health_message="cough")))
        await call.write(say(ready=replica_pb2.ReplicaReady(address=f"unix:{assignment.socket_path}")))
        while (command := await call.read()) is not grpc.aio.EOF:
            if command.HasField("reconfigure"):
                print(f"reconfigured to {command.reconfigure.settings.user_config.decode()}")
                await call.write(say(reconfigured=replica_pb2.ReplicaReconfigured()))
            elif command.HasField("drain") and behaviour != "stubborn":
                await call.write(say(drained=replica_pb2.ReplicaDrained()))
                await hang_up(call)
                return


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--controller")
    parser.add_argument("--replica-id")
    parser.add_argument("--owner-pid", type=int)
    arguments = parser.parse_args()
    life = asyncio.create_task(live(arguments))
    owner = asyncio.create_task(process_ended(arguments.owner_pid or os.getppid()))
    await asyncio.wait([life, owner], return_when=asyncio.FIRST_COMPLETED)
    os._exit(0)


if __name__ == "__main__":
    assert control_pb2
    asyncio.run(main())
