"""Message types with everything that ProtoJSON knows, compiled when first asked for; and the oracle's answers."""

from __future__ import annotations

import functools
import json
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from grpc_tools import protoc

PROTO3 = """
syntax = "proto3";
package t;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Color { COLOR_NONE = 0; RED = 1; GREEN = -2; }
message Scalars {
  int32 int_v = 1; sint32 sint_v = 2; sfixed32 sfixed_v = 3; uint32 uint_v = 4; fixed32 fixed_v = 5;
  int64 long_v = 6; sint64 slong_v = 7; sfixed64 sflong_v = 8; uint64 ulong_v = 9; fixed64 flong_v = 10;
  double double_v = 11; float float_v = 12; bool bool_v = 13; string string_v = 14; bytes bytes_v = 15;
  Color color = 16;
  optional int32 opt_int = 17; optional string opt_string = 18; optional Color opt_color = 19;
  string renamed = 20 [json_name = "anotherName"];
}
message Lists {
  repeated int32 ints = 1; repeated int64 longs = 2; repeated double doubles = 3; repeated float floats = 4;
  repeated bool bools = 5; repeated string strings = 6; repeated bytes blobs = 7; repeated Color colors = 8;
  repeated Scalars messages = 9; repeated google.protobuf.Value values = 10;
  repeated google.protobuf.Int64Value wrapped = 11; repeated google.protobuf.NullValue nulls = 12;
  repeated uint64 ulongs = 13;
}
message Maps {
  map<int32, string> by_int = 1; map<int64, int64> by_long = 2; map<uint32, double> by_uint = 3;
  map<uint64, bytes> by_ulong = 4; map<bool, bool> by_bool = 5; map<string, Color> by_string = 6;
  map<string, Scalars> messages = 7; map<string, google.protobuf.Value> values = 8;
  map<sint32, float> by_sint = 9; map<fixed64, google.protobuf.Duration> by_fixed = 10;
  map<string, google.protobuf.NullValue> nulls = 11; map<int32, Scalars> by_number = 12;
}
message Choice {
  oneof kind {
    int32 number = 1; string text = 2; Scalars message = 3; google.protobuf.Value value = 4;
    google.protobuf.NullValue nothing = 5; Color color = 6; google.protobuf.StringValue wrapped = 7;
  }
  int32 beside = 8;
}
message Known {
  google.protobuf.Any any = 1; google.protobuf.Timestamp timestamp = 2; google.protobuf.Duration duration = 3;
  google.protobuf.FieldMask mask = 4; google.protobuf.Struct struct = 5; google.protobuf.Value value = 6;
  google.protobuf.ListValue list = 7; google.protobuf.NullValue nothing = 8; google.protobuf.Empty empty = 9;
  google.protobuf.DoubleValue w_double = 10; google.protobuf.FloatValue w_float = 11;
  google.protobuf.Int64Value w_int64 = 12; google.protobuf.UInt64Value w_uint64 = 13;
  google.protobuf.Int32Value w_int32 = 14; google.protobuf.UInt32Value w_uint32 = 15;
  google.protobuf.BoolValue w_bool = 16; google.protobuf.StringValue w_string = 17;
  google.protobuf.BytesValue w_bytes = 18;
  repeated google.protobuf.Any anys = 19; repeated google.protobuf.Timestamp timestamps = 20;
}
message Tree { Tree left = 1; repeated Tree children = 2; map<string, Tree> named = 3; int32 leaf_value = 4; }
"""

PROTO2 = """
syntax = "proto2";
package t2;
enum Closed { ZERO = 0; ONE = 1; TWO = 2; }
message Old {
  optional int32 number = 1 [default = 7]; optional Closed closed = 2; repeated Closed list = 3;
  optional group Part = 4 { optional string inner_text = 1; }
  map<string, Closed> named = 5; optional bytes blob = 6 [default = "x"];
  extensions 100 to 200;
}
message Strict { required int32 must = 1; optional Strict inner = 2; }
extend Old { optional int64 extra_number = 100; repeated string extra_list = 101; optional Strict extra_message = 102; }
"""

EDITION = """
edition = "2023";
package t3;
enum Shut { option features.enum_type = CLOSED; SHUT_ONE = 1; }
message New {
  int32 explicit_v = 1; int32 implicit_v = 2 [features.field_presence = IMPLICIT];
  Shut shut = 3; New delimited = 4 [features.message_encoding = DELIMITED]; repeated Shut list = 5;
}
"""

TYPES = ("t.Scalars", "t.Lists", "t.Maps", "t.Choice", "t.Known", "t.Tree", "t2.Old", "t3.New")


@functools.cache
def pool() -> descriptor_pool.DescriptorPool:
    """The types above and all that they import, in a pool of their own."""
    with tempfile.TemporaryDirectory() as folder:
        names = {"three.proto": PROTO3, "two.proto": PROTO2, "edition.proto": EDITION}
        for name, text in names.items():
            Path(folder, name).write_text(text)
        out = Path(folder, "set.bin")
        with resources.as_file(resources.files("grpc_tools") / "_proto") as known:
            arguments = ["protoc", f"-I{folder}", f"-I{known}", "--include_imports", f"--descriptor_set_out={out}"]
            assert protoc.main([*arguments, *names]) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    result = descriptor_pool.DescriptorPool()
    for file in files.file:
        result.Add(file)
    return result


def descriptor(name: str) -> Descriptor:
    found: Descriptor = pool().FindMessageTypeByName(name)
    return found


def new(name: str, **fields: Any) -> Message:
    message: Message = message_factory.GetMessageClass(descriptor(name))(**fields)
    return message


def wire(message: Message) -> bytes:
    """Bytes to compare by: NaN is not equal to itself."""
    return message.SerializePartialToString(deterministic=True)


def oracle_parse(name: str, body: bytes, *, ignore: bool = False) -> Message | None:
    """json_format's message; None: it refused, with whatever exception."""
    message = new(name)
    try:
        return json_format.Parse(body, message, ignore_unknown_fields=ignore, descriptor_pool=pool())
    except Exception:
        return None


def oracle_tree(message: Message, **options: bool) -> Any:
    """json_format's JSON, read again so that NaN and the like are seen as text."""
    return json.loads(json.dumps(json_format.MessageToDict(message, descriptor_pool=pool(), **options)))
