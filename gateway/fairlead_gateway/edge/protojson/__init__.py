"""ProtoJSON compiled per message type: JSON documents to protobuf messages and back.

Semantics are those of ``google.protobuf.json_format``; what is refused there is refused here. The deliberate
differences are listed in :mod:`fairlead_gateway.edge.protojson.codec`. No I/O, no asyncio.
"""

from fairlead_gateway.edge.protojson.codec import ProtoJson
from fairlead_gateway.edge.protojson.decoder import Decoder
from fairlead_gateway.edge.protojson.document import document
from fairlead_gateway.edge.protojson.encoder import Encoder
from fairlead_gateway.edge.protojson.options import Options
from fairlead_gateway.edge.protojson.refusals import JsonRefused, NotRepresentable

__all__ = ["Decoder", "Encoder", "JsonRefused", "NotRepresentable", "Options", "ProtoJson", "document"]
