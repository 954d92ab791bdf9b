"""Timestamp, Duration and FieldMask: messages that are one string in JSON."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from fairlead_gateway.edge.protojson.refusals import JsonRefused, NotRepresentable

_EPOCH = datetime(1970, 1, 1)
_SECOND = timedelta(seconds=1)
_TIMESTAMP_SECONDS = (-62135596800, 253402300799)
_DURATION_SECONDS = 315_576_000_000
_NANOS = 10**9
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))\Z"
)
_DURATION = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s\Z")


def read_timestamp(text: Any) -> tuple[int, int]:
    """Seconds since 1970 and nanoseconds of an RFC 3339 string. Raises JsonRefused."""
    match = _TIMESTAMP.match(text) if type(text) is str else None
    if match is None:
        raise JsonRefused('must be a time like "2026-01-31T12:00:00.5Z"')
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))
    except ValueError as error:
        raise JsonRefused("is not a time of the calendar") from error
    seconds = (moment - _EPOCH) // _SECOND
    if sign is not None:
        offset = (int(offset_hours) * 60 + int(offset_minutes)) * 60
        seconds += -offset if sign == "+" else offset
    if not _TIMESTAMP_SECONDS[0] <= seconds <= _TIMESTAMP_SECONDS[1]:
        raise JsonRefused("must be a time from the years 1 to 9999")
    return seconds, int(fraction.ljust(9, "0")) if fraction else 0


def write_timestamp(seconds: int, nanos: int) -> str:
    """RFC 3339 in UTC with 0, 3, 6 or 9 digits of a second. Raises NotRepresentable."""
    if not (_TIMESTAMP_SECONDS[0] <= seconds <= _TIMESTAMP_SECONDS[1] and 0 <= nanos < _NANOS):
        raise NotRepresentable("a Timestamp is out of range")
    return f"{(_EPOCH + timedelta(seconds=seconds)).isoformat()}{_fraction(nanos)}Z"


def read_duration(text: Any) -> tuple[int, int]:
    """Seconds and nanoseconds, of one sign, of a string like ``"-1.5s"``. Raises JsonRefused."""
    match = _DURATION.match(text) if type(text) is str else None
    if match is None:
        raise JsonRefused('must be a duration like "1.5s"')
    sign, whole, fraction = match.groups()
    seconds, nanos = int(whole), int(fraction.ljust(9, "0")) if fraction else 0
    if seconds > _DURATION_SECONDS:
        raise JsonRefused(f"must be a duration of at most {_DURATION_SECONDS} seconds")
    return (-seconds, -nanos) if sign else (seconds, nanos)


def write_duration(seconds: int, nanos: int) -> str:
    """Seconds with 0, 3, 6 or 9 digits and ``s``. Raises NotRepresentable."""
    mixed = (seconds < 0 < nanos) or (nanos < 0 < seconds)
    if mixed or abs(seconds) > _DURATION_SECONDS or abs(nanos) >= _NANOS:
        raise NotRepresentable("a Duration is out of range")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


def _fraction(nanos: int) -> str:
    if nanos == 0:
        return ""
    if nanos % 1_000_000 == 0:
        return f".{nanos // 1_000_000:03d}"
    if nanos % 1_000 == 0:
        return f".{nanos // 1_000:06d}"
    return f".{nanos:09d}"


def read_mask(text: Any) -> list[str]:
    """The paths of a FieldMask, from lowerCamelCase to the names of the .proto file. Raises JsonRefused."""
    if type(text) is not str:
        raise JsonRefused("must be a string of paths with commas between")
    if "_" in text:
        raise JsonRefused("must have its paths in lowerCamelCase")
    if not text:
        return []
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise JsonRefused("is not valid Unicode text") from error
    return "".join("_" + c.lower() if c.isupper() else c for c in text).split(",")


def write_mask(paths: list[str]) -> str:
    """The paths in lowerCamelCase with commas between. Raises NotRepresentable for paths that would not come back."""
    return ",".join([_camel(path) for path in paths])


def _camel(path: str) -> str:
    first, *others = path.split("_")
    if any(c.isupper() for c in path) or not all(part and part[0].islower() for part in others):
        raise NotRepresentable("a path of a FieldMask has no form in lowerCamelCase")
    return first + "".join([part[0].upper() + part[1:] for part in others])
