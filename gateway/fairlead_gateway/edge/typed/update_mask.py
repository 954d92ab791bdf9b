"""The field mask of a PATCH request, computed from what its body names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor

from fairlead.paths.rules import DOCUMENTS, TEXTS, WRAPPERS, field_named

_LEAVES = WRAPPERS | TEXTS | DOCUMENTS | {"google.protobuf.Any", "google.protobuf.Empty"}


def mask_paths(tree: Any, message_type: Descriptor, prefix: str = "") -> Iterator[str]:
    """The paths (.proto names) of the fields that a JSON object names; unknown names are none.

    Goes into messages, not into lists, maps and well-known types. A field that is null is named: it shall be cleared.
    """
    if type(tree) is not dict:
        return
    for name, value in tree.items():
        field = field_named(message_type, name)
        if field is None:
            continue
        path = prefix + field.name
        message = field.message_type
        if message is None or field.is_repeated or message.full_name in _LEAVES or not value or type(value) is not dict:
            yield path
        else:
            yield from mask_paths(value, message, path + ".")
