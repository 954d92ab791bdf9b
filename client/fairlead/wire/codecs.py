"""Values to payloads and back: the four serializations that users can choose.

This is the one place where anything is pickled or unpickled. A codec that can run code when it decodes says so
(``runs_code``); whether a connection may carry it is decided once, by :func:`fairlead.wire.trust.check_serialization`,
before a payload comes here.
"""

from __future__ import annotations

import copyreg
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle
import orjson
import ormsgpack

from fairlead.v1 import session_pb2
from fairlead.wire.errors import InvalidArgumentsError, UnknownSerializationError

_PLAIN_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
_PLAIN_LIMIT = 64

# A dataclass that cannot be imported travels by value, and its fields say by this very object that they have no
# default.
copyreg.pickle(type(dataclasses.MISSING), lambda missing: "MISSING")


@dataclass(frozen=True, kw_only=True, slots=True)
class Codec:
    """One serialization."""

    name: str
    """What users type in ``options(request_serialization=...)``."""
    serialization: session_pb2.Serialization.ValueType
    """What travels in a ``CallHeader``."""
    media_type: str
    """What travels in a ``google.api.HttpBody``."""
    runs_code: bool
    """Whether decoding can run code that the sender chose."""
    dumps: Callable[[Any], bytes]
    """A value to bytes. Raises what the library raises for a value that it cannot encode."""
    loads: Callable[[bytes], Any]
    """Bytes to a value. Raises what the library raises for bytes that it cannot decode."""


def _is_plain(value: Any, budget: int = _PLAIN_LIMIT) -> int:
    """What is left of the budget after walking a value of exact builtin types; negative: not plain, or too large."""
    kind = type(value)
    if kind in _PLAIN_SCALARS:
        return budget - 1
    if kind is list or kind is tuple:
        if len(value) > budget:
            return -1
        for item in value:
            budget = budget - 2 if type(item) in _PLAIN_SCALARS else _is_plain(item, budget - 1)
            if budget < 0:
                return budget
        return budget
    if kind is dict:
        if not value:
            return budget
        if len(value) * 2 > budget:
            return -1
        for key, item in value.items():
            budget = _is_plain(item, _is_plain(key, budget - 1))
            if budget < 0:
                return budget
        return budget
    return -1


def _cloudpickle_dumps(value: Any) -> bytes:
    # For plain builtin values pickle gives bytes that mean the same, in a tenth of the time.
    if _is_plain(value) >= 0:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    result: bytes = cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return result


def _pickle_dumps(value: Any) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


_END = bytes.fromhex("c4 10") + b"end of the value"


def _msgpack_loads(data: bytes) -> Any:
    # The library stops after the first value. As the first of a pair, a value has to end where the second begins.
    try:
        value, end = ormsgpack.unpackb(b"".join((b"\x92", data, _END)))
    except ValueError as error:
        ormsgpack.unpackb(data)  # raises what is wrong with the value, if it is the value
        raise ValueError(f"bytes follow the value ({error})") from error
    if end != _END[2:]:
        ormsgpack.unpackb(data)  # one that was cut off continues into what was appended
        raise ValueError("bytes follow the value")
    return value


CLOUDPICKLE = Codec(
    name="cloudpickle",
    serialization=session_pb2.SERIALIZATION_CLOUDPICKLE,
    media_type="application/vnd.fairlead.cloudpickle",
    runs_code=True,
    dumps=_cloudpickle_dumps,
    loads=pickle.loads,
)
PICKLE = Codec(
    name="pickle",
    serialization=session_pb2.SERIALIZATION_PICKLE,
    media_type="application/vnd.fairlead.pickle",
    runs_code=True,
    dumps=_pickle_dumps,
    loads=pickle.loads,
)
MSGPACK = Codec(
    name="msgpack",
    serialization=session_pb2.SERIALIZATION_MSGPACK,
    media_type="application/msgpack",
    runs_code=False,
    dumps=ormsgpack.packb,
    loads=_msgpack_loads,
)
ORJSON = Codec(
    name="orjson",
    serialization=session_pb2.SERIALIZATION_JSON,
    media_type="application/json",
    runs_code=False,
    dumps=orjson.dumps,
    loads=orjson.loads,
)

CODECS = (CLOUDPICKLE, PICKLE, MSGPACK, ORJSON)
_BY_NAME = {codec.name: codec for codec in CODECS}
_BY_SERIALIZATION = {int(codec.serialization): codec for codec in CODECS}
_BY_MEDIA_TYPE = {codec.media_type: codec for codec in CODECS} | {"": ORJSON, "application/x-msgpack": MSGPACK}


def codec_named(name: str) -> Codec:
    """The codec that a user named, in any case. Raises ValueError that lists the names, TypeError for no string."""
    if not isinstance(name, str):
        raise TypeError(
            f"a serialization is named by a string, not {type(name).__name__}. Available: {', '.join(_BY_NAME)}."
        )
    try:
        return _BY_NAME[name.lower()]
    except KeyError:
        raise ValueError(f"Unknown serialization {name!r}. Available: {', '.join(_BY_NAME)}.") from None


def codec_of(serialization: int) -> Codec:
    """The codec for a ``Serialization``. Raises UnknownSerializationError that lists the names."""
    try:
        return _BY_SERIALIZATION[serialization]
    except KeyError:
        raise UnknownSerializationError(
            f"unknown serialization {serialization}; available: {', '.join(_BY_NAME)}"
        ) from None


def codec_of_media_type(media_type: str) -> Codec:
    """The codec for a media type, parameters ignored. Raises UnknownSerializationError that lists the media types."""
    codec = _BY_MEDIA_TYPE.get(media_type)
    if codec is not None:
        return codec
    try:
        return _BY_MEDIA_TYPE[media_type.partition(";")[0].strip().lower()]
    except KeyError:
        known = ", ".join(codec.media_type for codec in CODECS)
        raise UnknownSerializationError(f"unknown media type {media_type!r}; available: {known}") from None


def dump_arguments(codec: Codec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Arguments to a payload: the pair of an array and a map that ``serving.proto`` defines."""
    return codec.dumps((args, kwargs))


def load_arguments(codec: Codec, payload: bytes) -> tuple[list[Any] | tuple[Any, ...], dict[str, Any]]:
    """A payload to arguments. Raises InvalidArgumentsError that says what is wrong, whatever the bytes are."""
    if not payload:
        return (), {}
    try:
        pair = codec.loads(payload)
    except Exception as error:
        raise InvalidArgumentsError(
            f"the arguments are not valid {codec.name}: {type(error).__name__}: {error}"
        ) from error
    if type(pair) in (tuple, list) and 1 <= len(pair) <= 2 and type(pair[0]) in (tuple, list):
        kwargs = pair[1] if len(pair) == 2 else {}
        if type(kwargs) is dict and all(type(key) is str for key in kwargs):
            return pair[0], kwargs
    raise InvalidArgumentsError(
        "the arguments must be an array of the positional arguments and a map of the keyword arguments, "
        'for example in JSON [["world"], {}]'
    )
