"""Calls the running example through the generated gRPC stub: what a client in any other language does.

``python -m examples.digits.ask_with_stub [HOST:PORT]``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import grpc
from google.api import httpbody_pb2

from fairlead.v1 import serving_pb2, serving_pb2_grpc

SEVEN = json.loads((Path(__file__).parent / "seven.json").read_text())["image"]


def payload(*arguments: object) -> httpbody_pb2.HttpBody:
    """Positional arguments as JSON: an array of them, and a map of keyword arguments."""
    return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps([arguments, {}]).encode())


def main(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        serving = serving_pb2_grpc.ServingServiceStub(channel)
        one = serving.Call(
            serving_pb2.CallRequest(
                target=serving_pb2.Target(application="digits", method="classify"), payload=payload(SEVEN)
            ),
            timeout=10,
        )
        print("one image: ", json.loads(one.payload.data))
        several = serving.CallStream(
            serving_pb2.CallStreamRequest(
                target=serving_pb2.Target(application="digits", method="classify_all"), payload=payload([SEVEN] * 3)
            ),
            timeout=10,
        )
        for answer in several:
            print("streamed:  ", json.loads(answer.payload.data))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000")
