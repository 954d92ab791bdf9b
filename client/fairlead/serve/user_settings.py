"""What all settings objects share: frozen, keyword-only, checked when they are made, unknown names refused.

Plain dataclasses: the client library does without pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from fairlead.serve.validation import suggestion


class UnknownSettingError(TypeError, ValueError):
    """A name that a settings object does not have: a TypeError as for any keyword, in Ray Serve a ValueError."""

    def __init__(self, message: str, unknown: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.unknown = unknown
        """The names."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all settings objects share."""

    @classmethod
    def of(cls, value: Self | Mapping[str, Any] | None) -> Self:
        """The settings that a user gave as an object, as a mapping with the same names, or not at all.

        Raises TypeError for anything else, UnknownSettingError for unknown names, with what may have been meant.
        """
        if isinstance(value, cls):
            return value
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            raise TypeError(f"{cls.__name__} expected, or a mapping with its fields; got {type(value).__name__}")
        known = [one.name for one in fields(cls)]
        unknown = sorted(set(value) - set(known))
        if unknown:
            raise UnknownSettingError(
                f"{cls.__name__} has no {', '.join(map(repr, unknown))}; {suggestion(unknown[0], known)}", unknown
            )
        return cls(**value)
