"""What of ProtoJSON is a matter of choice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The choices of one codec; the defaults are those of canonical ProtoJSON."""

    ignore_unknown_fields: bool = False
    """Whether unknown names of fields and of enum values are skipped instead of refused."""
    emit_defaults: bool = False
    """Whether fields without presence (scalars of proto3, lists, maps) are written although they hold their default."""
    proto_names: bool = False
    """Whether fields are written with their names of the .proto file instead of lowerCamelCase."""
    enum_numbers: bool = False
    """Whether enum values are written as numbers instead of names."""
