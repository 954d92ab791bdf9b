"""The types of Python that are one scalar, or one well-known message, in protobuf."""

from __future__ import annotations

import datetime
import decimal
import operator
import uuid
from collections.abc import Callable
from typing import Any

from fairlead.serve.derived.shapes import Imported, Scalar

_NANOS = 1_000_000_000
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SECOND = datetime.timedelta(seconds=1)
_MICROSECOND = datetime.timedelta(microseconds=1)


def _whole(value: Any) -> int:
    return int(operator.index(value))


def _real(value: Any) -> float:
    if isinstance(value, str | bytes | bytearray):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):  # NumPy's, by either name
        raise TypeError(f"expected bool, got {type(value).__name__}")
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected str, got {type(value).__name__}")
    return value


def _octets(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"expected bytes, got {type(value).__name__}")
    return bytes(value)


def _written(kind: type, parse: Callable[[str], Any], write: Callable[[Any], str] = str) -> Scalar:
    """A type that is written as a string."""

    def decode(text: str) -> Any:
        try:
            return parse(text)
        except (ValueError, ArithmeticError) as error:
            raise ValueError(f"{text!r} is no {kind.__name__}") from error

    def encode(value: Any) -> str:
        if not isinstance(value, kind):
            raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
        return write(value)

    return Scalar(name="string", label="String", decode=decode, encode=encode)


INT = Scalar(name="int64", label="Int64", encode=_whole)
FLOAT = Scalar(name="double", label="Double", encode=_real)
BOOL = Scalar(name="bool", label="Bool", encode=_truth)
STR = Scalar(name="string", label="String", encode=_text)
BYTES = Scalar(name="bytes", label="Bytes", encode=_octets)

PLAIN: dict[type, Scalar] = {int: INT, float: FLOAT, bool: BOOL, str: STR, bytes: BYTES}
"""Also for subclasses, whose constructor takes the plain value."""

WRITTEN: dict[type, Scalar] = {
    bytearray: Scalar(name="bytes", label="Bytes", decode=bytearray, encode=_octets),
    memoryview: Scalar(name="bytes", label="Bytes", decode=memoryview, encode=_octets),
    decimal.Decimal: _written(decimal.Decimal, decimal.Decimal),
    uuid.UUID: _written(uuid.UUID, uuid.UUID),
    datetime.date: _written(datetime.date, datetime.date.fromisoformat, datetime.date.isoformat),
    datetime.time: _written(datetime.time, datetime.time.fromisoformat, datetime.time.isoformat),
}

_NUMPY = {
    "bool": ("bool", _truth),
    "int8": ("int32", _whole),
    "int16": ("int32", _whole),
    "int32": ("int32", _whole),
    "int64": ("int64", _whole),
    "uint8": ("uint32", _whole),
    "uint16": ("uint32", _whole),
    "uint32": ("uint32", _whole),
    "uint64": ("uint64", _whole),
    "float16": ("float", _real),
    "float32": ("float", _real),
    "float64": ("double", _real),
}


def numpy_scalar(kind: type) -> Scalar | None:
    """The scalar for a type of NumPy's, such as ``numpy.float32``; None for others."""
    if kind.__module__ != "numpy":
        return None
    found = _NUMPY.get(kind.__name__.removesuffix("_"))
    if found is None:
        return None
    name, encode = found

    def decode(value: Any) -> Any:
        try:
            return kind(value)
        except OverflowError:
            raise ValueError(f"{value} is out of range for {kind.__name__}") from None

    return Scalar(name=name, label=name.capitalize(), decode=decode, encode=encode)


def subclass_of_scalar(kind: type) -> Scalar | None:
    """The scalar for a subclass of ``str`` and its kin; None for others."""
    for plain, scalar in PLAIN.items():
        if issubclass(kind, plain):
            return Scalar(name=scalar.name, label=scalar.label, decode=kind, encode=scalar.encode)
    return None


def choice(values: tuple[Any, ...], scalar: Scalar) -> Scalar:
    """A scalar that is one of a few values, as ``Literal`` says."""
    allowed = frozenset(values)
    listed = ", ".join(map(repr, values))

    def decode(value: Any) -> Any:
        if value not in allowed:
            raise ValueError(f"{value!r} is none of {listed}")
        return value

    return Scalar(name=scalar.name, label=scalar.label, decode=decode, encode=decode)


def _decode_timestamp(message: Any) -> datetime.datetime:
    if not 0 <= message.nanos < _NANOS:
        raise ValueError("nanos of a timestamp are from 0 to 999,999,999")
    try:
        return _EPOCH + datetime.timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    except OverflowError:
        raise ValueError("a timestamp is from the year 1 to the year 9999") from None


def _encode_timestamp(message: Any, value: Any) -> None:
    if not isinstance(value, datetime.datetime):
        raise TypeError(f"expected datetime, got {type(value).__name__}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError("a datetime needs a time zone, such as datetime.now(timezone.utc)")
    passed = value - _EPOCH
    message.seconds = passed // _SECOND
    message.nanos = passed % _SECOND // _MICROSECOND * 1000


def _decode_duration(message: Any) -> datetime.timedelta:
    if abs(message.nanos) >= _NANOS or message.seconds * message.nanos < 0:
        raise ValueError("nanos of a duration are below a second and have the sign of its seconds")
    try:
        microseconds = abs(message.nanos) // 1000
        return datetime.timedelta(
            seconds=message.seconds, microseconds=-microseconds if message.nanos < 0 else microseconds
        )
    except OverflowError:
        raise ValueError("a duration is at most 999,999,999 days") from None


def _encode_duration(message: Any, value: Any) -> None:
    if not isinstance(value, datetime.timedelta):
        raise TypeError(f"expected timedelta, got {type(value).__name__}")
    sign = -1 if value < datetime.timedelta() else 1
    length = abs(value)
    message.seconds = sign * (length // _SECOND)
    message.nanos = sign * (length % _SECOND // _MICROSECOND * 1000)


WELL_KNOWN: dict[type, Imported] = {
    datetime.datetime: Imported(
        name="google.protobuf.Timestamp",
        file="google/protobuf/timestamp.proto",
        decode=_decode_timestamp,
        encode=_encode_timestamp,
    ),
    datetime.timedelta: Imported(
        name="google.protobuf.Duration",
        file="google/protobuf/duration.proto",
        decode=_decode_duration,
        encode=_encode_duration,
    ),
}
