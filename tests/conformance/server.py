"""The server under test, as connectconformance starts it: ``python -m tests.conformance.server COMPILED``.

It is asked for a server by a message on standard input, says where it is on standard output, and ends by SIGTERM.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tempfile
import threading

from fairlead import serve
from fairlead.serve.api import instance_status


def main(compiled: str) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is logged is no answer
    sys.path.insert(0, compiled)
    messages = importlib.import_module("connectrpc.conformance.v1.server_compat_pb2")
    service = importlib.import_module("tests.conformance.service")
    size = int.from_bytes(sys.stdin.buffer.read(4), "big")
    messages.ServerCompatRequest.FromString(sys.stdin.buffer.read(size))
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    with tempfile.TemporaryDirectory(prefix="fl-") as directory:
        os.environ["FAIRLEAD_STATE_DIR"] = directory
        serve.start(http_options={"port": 0}, grpc_options={"port": 0})
        try:
            serve.run(service.Conformance.bind(), name="conformance", route_prefix="/elsewhere")
            (gateway,) = instance_status().gateways
            host, _, port = gateway.http_address.rpartition(":")
            answer = messages.ServerCompatResponse(host=host, port=int(port)).SerializeToString()
            answers.write(len(answer).to_bytes(4, "big") + answer)
            answers.flush()
            ended.wait()
        finally:
            serve.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
