"""The compiled conversions of a set of message types.

Differences to ``google.protobuf.json_format`` (7.36); everything else is the same, and a test holds it to that:

=============================================================  ======================  =======================
Input                                                          json_format             here
=============================================================  ======================  =======================
``[]`` or ``""`` for a message                                 an empty message        refused
a field under both of its names (``intV`` and ``int_v``)       the last wins           refused
``true`` for a float or an enum; ``1.5`` for an enum           1                       refused
numbers in strings beyond JSON's grammar                       as Python               refused
(``" 1.5"``, ``"1_0"``, ``"01"``, ``"+1"``, ``"inf"``)
numbers beyond a double, beyond a float in a string            an infinity             refused
NaN and Infinity without quotes in a Struct                    accepted                refused
characters outside of base64's alphabet, wrong padding         dropped                 refused
Timestamp and Duration beyond their grammar                    as Python               refused
(``"2026-1-1T0:0:0Z"``, ``"1.s"``, ten digits, offset +99:00)
null for a Value or NullValue beside its oneof's other member  the last wins           refused
two keys of a map that are one number (``"1"``, ``"1.0"``)     the last wins           refused
an Any of a well-known type with more than @type and value     ignored                 refused (as unknown)
unpaired surrogates, numbers beyond a double, where ignored    ignored                 refused
a name of a field that is the name of a oneof it is not in     refused if both occur   accepted
an extension by the name of its MessageSet type                accepted                refused (as unknown)
=============================================================  ======================  =======================

and on the way out ``TypeError``, ``DecodeError`` and ``RecursionError`` are NotRepresentable.
"""

from __future__ import annotations

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool

from fairlead_gateway.edge.protojson.decoder import Decoder, DecoderSet
from fairlead_gateway.edge.protojson.encoder import Encoder, EncoderSet
from fairlead_gateway.edge.protojson.options import Options


class ProtoJson:
    """Decoders and encoders of one pool and one set of options, compiled when first asked for.

    Keep one for as long as the pool is in use: what it compiled is held. The returned decoders and encoders hold no
    state of a call and may be used by several threads; asking for new ones is for one thread at a time.
    """

    def __init__(self, pool: DescriptorPool | None = None, options: Options | None = None) -> None:
        """``pool`` finds the types in Any (and extensions); without one it is protobuf's default pool."""
        self.pool = descriptor_pool.Default() if pool is None else pool
        self.options = options or Options()
        self._decoders = DecoderSet(self.pool, self.options)
        self._encoders = EncoderSet(self.pool, self.options)

    def decoder(self, message_type: Descriptor) -> Decoder:
        """JSON to messages of this type; the same object for the same descriptor."""
        return self._decoders.decoder(message_type)

    def encoder(self, message_type: Descriptor) -> Encoder:
        """Messages of this type to JSON; the same object for the same descriptor."""
        return self._encoders.encoder(message_type)
