"""A replica with a typed service, and calls of its methods whose payloads stay bytes."""

from __future__ import annotations

import asyncio

from google.protobuf import descriptor_pb2, text_format

from fairlead.v1 import control_pb2, session_pb2
from fairlead_replica.typed.services import TypedServices
from tests.replica.calling import Answer, Stage

DESCRIPTORS = """
name: "echo.proto" package: "test.v1" syntax: "proto3"
message_type { name: "Text" field { name: "text" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } }
service {
  name: "EchoService"
  method { name: "Say" input_type: ".test.v1.Text" output_type: ".test.v1.Text" }
  method { name: "Repeat" input_type: ".test.v1.Text" output_type: ".test.v1.Text" server_streaming: true }
  method { name: "Join" input_type: ".test.v1.Text" output_type: ".test.v1.Text" client_streaming: true }
  method {
    name: "Chat" input_type: ".test.v1.Text" output_type: ".test.v1.Text" client_streaming: true server_streaming: true
  }
  method { name: "Absent" input_type: ".test.v1.Text" output_type: ".test.v1.Text" }
}
"""
PROTOBUF = session_pb2.SERIALIZATION_PROTOBUF


def interface(**methods):
    file = text_format.Parse(DESCRIPTORS, descriptor_pb2.FileDescriptorProto())
    return control_pb2.DeploymentInterface(
        descriptor_set=descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString(),
        typed_services=[control_pb2.TypedService(name="test.v1.EchoService", methods=methods)],
        message_modules=["nowhere.to.be_found_pb2"],
    )


def text(value: str) -> bytes:
    data = value.encode()
    return bytes([10, len(data)]) + data if data else b""


class TypedStage(Stage):
    def __init__(self, target, *, methods=None, **options):
        super().__init__(target, **options)
        self.runtime.use_services(TypedServices(interface(**methods or {}), self.runtime.callable))

    def rpc(self, name, payload=b"", *, stream=False, last=True, metadata=(), timeout_s=0.0, service="EchoService"):
        header = session_pb2.CallHeader(
            method=f"/test.v1.{service}/{name}",
            request_serialization=PROTOBUF,
            response_serialization=PROTOBUF,
            stream=stream,
            request_id="r-1",
            timeout_us=int(timeout_s * 1e6),
            peer="ipv4:10.0.0.1:5",
        )
        for key, value in metadata:
            header.metadata.add(key=key, value=value)
        raw = Raw(self.caller.link)
        raw.stream = self.caller.link.open(header, payload, raw, last=last)
        return raw


class Raw(Answer):
    """An answer whose payloads stay bytes."""

    def __init__(self, link):
        super().__init__(link, None)

    async def next(self):
        return await asyncio.wait_for(self._reader.get(), 60)

    async def result(self):
        [payload] = await self.all()
        return payload

    async def status(self):
        await asyncio.wait_for(self.ended.wait(), 60)
        return self.outcome.status

    def put(self, payload):
        return self._link.send(self.stream, payload)
