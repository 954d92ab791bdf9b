"""Scalar values: JSON to what a field takes, and back."""

from __future__ import annotations

import binascii
import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import EnumDescriptor, EnumValueDescriptor, FieldDescriptor

from fairlead_gateway.edge.protojson.refusals import JsonRefused, UnknownEnumName

Convert = Callable[[Any], Any]

INT32 = (-(2**31), 2**31 - 1)
UINT32 = (0, 2**32 - 1)
INT64 = (-(2**63), 2**63 - 1)
UINT64 = (0, 2**64 - 1)

_FLOAT_MAX = float.fromhex("0x1.fffffep+127")
_SINGLE = struct.Struct("<f")
_pack, _unpack = _SINGLE.pack, _SINGLE.unpack
# The grammar of numbers in JSON (RFC 8259, section 6); numbers in strings are held to it too.
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\Z")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}\Z")
_URL_SAFE = str.maketrans("-_", "+/")
# Longer than any number of a field; Python converts digits in quadratic time.
_LONGEST_NUMBER = 400
# Formats, as ``%`` is twice as fast as an f-string with a computed precision.
_DIGITS = ("%.6g", "%.7g", "%.8g")
_NAMED_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

_T = FieldDescriptor
_RANGES = {
    _T.TYPE_INT32: INT32, _T.TYPE_SINT32: INT32, _T.TYPE_SFIXED32: INT32,
    _T.TYPE_UINT32: UINT32, _T.TYPE_FIXED32: UINT32,
    _T.TYPE_INT64: INT64, _T.TYPE_SINT64: INT64, _T.TYPE_SFIXED64: INT64,
    _T.TYPE_UINT64: UINT64, _T.TYPE_FIXED64: UINT64,
}  # fmt: skip
_NATIVE: Mapping[int, type] = {
    **dict.fromkeys(_RANGES, int),
    _T.TYPE_BOOL: bool,
    _T.TYPE_STRING: str,
    _T.TYPE_DOUBLE: float,
}


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """The enum of a field of that type."""
    enum = field.enum_type
    if enum is None:
        raise TypeError(f"{field.full_name} is not an enum")
    return enum


def native_type(field: FieldDescriptor) -> type | None:
    """The Python type whose values the field takes as they are, ValueError if out of range; None: there is none."""
    return _NATIVE.get(field.type)


def from_json(field: FieldDescriptor) -> Convert:
    """The conversion of a JSON value to a value of the (item of the) scalar field; it raises JsonRefused."""
    if field.type in _RANGES:
        return _integer_reader(*_RANGES[field.type])
    if field.type == _T.TYPE_DOUBLE:
        return read_double
    if field.type == _T.TYPE_FLOAT:
        return read_float
    if field.type == _T.TYPE_BOOL:
        return read_bool
    if field.type == _T.TYPE_STRING:
        return read_string
    if field.type == _T.TYPE_BYTES:
        return read_bytes
    return _enum_reader(enum_of(field))


def key_from_json(field: FieldDescriptor) -> Convert:
    """The conversion of a name in a JSON object to a key of the map whose key field this is."""
    return read_bool_key if field.type == _T.TYPE_BOOL else from_json(field)


def to_json(field: FieldDescriptor, *, enum_numbers: bool) -> Convert | None:
    """The conversion of a value of the (item of the) scalar field to JSON; None: it is JSON as it is."""
    if field.type in _RANGES:
        return str if _RANGES[field.type] in (INT64, UINT64) else None
    if field.type == _T.TYPE_DOUBLE:
        return write_double
    if field.type == _T.TYPE_FLOAT:
        return write_float
    if field.type == _T.TYPE_BYTES:
        return write_bytes
    if field.type == _T.TYPE_ENUM and not enum_numbers:
        return _enum_writer(enum_of(field))
    return None


def write_key(key: object) -> str:
    """A key of a map as a name in a JSON object."""
    if key is True:
        return "true"
    return "false" if key is False else str(key)


def _integer_reader(low: int, high: int) -> Convert:
    def read_integer(value: Any) -> int:
        number = value if type(value) is int else _whole(value)
        if not low <= number <= high:
            raise JsonRefused(f"must be an integer from {low} to {high}")
        return number

    return read_integer


def _whole(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is str and len(value) <= _LONGEST_NUMBER:
        if (value.isdecimal() and value.isascii() and value[0] != "0") or _INTEGER.match(value):
            return int(value)
        if _NUMBER.match(value):
            value = float(value)
    if type(value) is float and value.is_integer():  # not of NaN and the infinities
        return int(value)
    raise JsonRefused("must be an integer")


def read_double(value: Any) -> float:
    """A number, a number in a string, or one of NaN, Infinity and -Infinity as a string."""
    number = _number(value)
    if type(value) is not str and not math.isfinite(number):
        raise JsonRefused("must be a finite number; NaN, Infinity and -Infinity are strings")
    return number


def read_float(value: Any) -> float:
    """The same within the range of single precision."""
    number = _number(value)
    if type(value) is str:
        # A string is rounded before it is compared, as what is written for the greatest float is a little above it.
        try:
            _SINGLE.pack(number)
        except OverflowError as error:
            raise JsonRefused("is too large for a float") from error
    elif not -_FLOAT_MAX <= number <= _FLOAT_MAX:
        raise JsonRefused("is too large for a float")
    return number


def _number(value: Any) -> float:
    kind = type(value)
    if kind is float:
        return float(value)
    if kind is int:
        try:
            return float(value)
        except OverflowError as error:
            raise JsonRefused("is too large for a number") from error
    if kind is str:
        if len(value) <= _LONGEST_NUMBER and _NUMBER.match(value):
            number = float(value)
            if math.isinf(number):
                raise JsonRefused("is too large for a number")
            return number
        named = _NAMED_FLOATS.get(value)
        if named is not None:
            return named
    raise JsonRefused("must be a number")


def read_bool(value: Any) -> bool:
    """``true`` or ``false``, without quotes."""
    if type(value) is bool:
        return value
    raise JsonRefused("must be true or false")


def read_bool_key(value: Any) -> bool:
    """``"true"`` or ``"false"`` as the name of an entry."""
    if value == "true":
        return True
    if value == "false":
        return False
    raise JsonRefused('must be "true" or "false"')


def read_string(value: Any) -> str:
    """A string without unpaired surrogates."""
    if type(value) is not str:
        raise JsonRefused("must be a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise JsonRefused("is not valid Unicode text") from error
    return value


def read_bytes(value: Any) -> bytes:
    """Base64, standard or URL-safe alphabet, padding optional."""
    if type(value) is not str:
        raise JsonRefused("must be a base64 string")
    try:
        return binascii.a2b_base64(value, strict_mode=True)  # what the most of us write
    except ValueError:
        return _lenient_bytes(value)


def _lenient_bytes(value: str) -> bytes:
    if not _BASE64.match(value):
        raise JsonRefused("must be a base64 string")
    digits = value.rstrip("=").translate(_URL_SAFE)
    padded = digits + "=" * (-len(digits) % 4)
    # Padding may be left out, but what stands there must be right.
    if len(value) != len(digits) and len(value) != len(padded):
        raise JsonRefused("must be a base64 string")
    try:
        return binascii.a2b_base64(padded)
    except binascii.Error as error:
        raise JsonRefused("must be a base64 string") from error


def write_bytes(value: bytes) -> str:
    """Base64 in the standard alphabet with padding."""
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def write_double(value: float) -> float | str:
    """The number; NaN and the infinities by name."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def write_float(value: float) -> float | str:
    """The number with the fewest digits that is the same single; NaN and the infinities by name."""
    if not math.isfinite(value):
        return write_double(value)
    # A single has six to nine significant digits.
    for digits in _DIGITS:
        rounded = float(digits % value)
        if rounded == value or _single(rounded) == value:
            return rounded
    return float("%.9g" % value)  # noqa: UP031 - see _DIGITS


def _single(value: float) -> float | None:
    try:
        single: float = _unpack(_pack(value))[0]
    except OverflowError:
        return None
    return single


def _enum_reader(enum: EnumDescriptor) -> Convert:
    numbers = {_custom_name(value): value.number for value in enum.values} | {
        name: value.number for name, value in enum.values_by_name.items()
    }
    numbers.pop(None, None)
    known = frozenset(enum.values_by_number) if enum.is_closed else None

    def read_enum(value: Any) -> int:
        if type(value) is str:
            number = numbers.get(value)
            if number is not None:
                return number
            if not _INTEGER.match(value):
                raise _not_a_value(value, enum)
        number = _whole(value)
        if (number not in known) if known is not None else not INT32[0] <= number <= INT32[1]:
            raise JsonRefused(f"is not a value of {enum.full_name}")
        return number

    return read_enum


def _not_a_value(name: str, enum: EnumDescriptor) -> JsonRefused:
    try:
        int(name)
    except ValueError:
        return UnknownEnumName(f"is not a value of {enum.full_name}")
    # A number that is not JSON's (" 1", "1_0"): not a name that a newer version of the enum may have.
    return JsonRefused(f"is not a value of {enum.full_name}")


def _enum_writer(enum: EnumDescriptor) -> Convert:
    if enum.full_name == "google.protobuf.NullValue":
        return lambda _: None
    names = {number: _custom_name(value) or value.name for number, value in enum.values_by_number.items()}
    return lambda number: names.get(number, number)


def _custom_name(value: EnumValueDescriptor) -> str | None:
    """The name an option of the value gives it in JSON (google/protobuf/json_enumvalue_options.proto)."""
    try:
        # Options are always read with the default pool.
        extension: Any = descriptor_pool.Default().FindExtensionByName("pb.enumvalue.json")
    except KeyError:
        return None
    options = value.GetOptions()
    if not options.HasExtension(extension):
        return None
    return str(options.Extensions[extension].string)
