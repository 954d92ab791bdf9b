"""The messages and enums of one file, each under a name of its own."""

from __future__ import annotations

import enum
from typing import Any

from fairlead.serve.derived import names
from fairlead.serve.derived.errors import HintError
from fairlead.serve.derived.shapes import Enumeration, Message


class Namespace:
    """What a file defines, in the order in which it was found."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.enums: dict[str, Enumeration] = {}
        self._by_class: dict[Any, Message | Enumeration] = {}

    def known(self, kind: Any) -> Message | Enumeration | None:
        """What a class has become."""
        return self._by_class.get(kind)

    def add_message(self, where: str, message: Message) -> Message:
        """Keeps a message under its name. Raises HintError if another one has it, or it cannot be one."""
        if not names.is_type_name(message.name):
            raise HintError(where, f"{message.name!r} cannot be the name of a message", "Rename the class")
        there = self._there(message.name)
        if there is not None and not _is_one(there, message):
            problem = f"two types would be the message {message.name!r}: {_origin(there)}, {_origin(message)}"
            raise HintError(where, problem, "Rename one of them")
        if message.source is not None:
            self._by_class[message.source] = message
        self.messages.setdefault(message.name, message)
        return message

    def enumeration(self, where: str, kind: type[enum.Enum]) -> Enumeration:
        """The enum for a class. Raises HintError for one that cannot be, or whose name another one has."""
        known = self._by_class.get(kind)
        if isinstance(known, Enumeration):
            return known
        made = _enumeration(where, kind)
        there = self._there(made.name)
        if there is not None:
            problem = f"two types would be {made.name!r}: {_origin(there)}, {_origin(made)}"
            raise HintError(where, problem, "Rename one of them")
        self.enums[made.name] = self._by_class[kind] = made
        return made

    def _there(self, name: str) -> Message | Enumeration | None:
        return self.messages.get(name) or self.enums.get(name)


def check_names(where: str, message: Message) -> None:
    """Raises HintError for two fields of one message whose names cannot be told apart, also in JSON."""
    seen: dict[str, str] = {}
    for field in message.fields:
        other = seen.setdefault(names.camel(field.name), field.key)
        if other != field.key:
            problem = f"{other!r} and {field.key!r} of {message.name} would have the same name"
            raise HintError(where, problem, "Rename one of them")


def _enumeration(where: str, kind: type[enum.Enum]) -> Enumeration:
    own = kind.__name__
    if issubclass(kind, enum.Flag):
        raise HintError(where, f"{own} is a set of flags", "Use int, or a list of an Enum")
    name = names.pascal(own)
    prefix = names.upper_snake(name)
    zero = f"{prefix}_UNSPECIFIED"
    members = {f"{prefix}_{names.upper_snake(member.name)}": member for member in kind}
    if not names.is_type_name(name) or not all(each.isascii() and each.isidentifier() for each in members):
        raise HintError(where, f"{own} has names that protobuf cannot have", "Use ASCII letters and digits")
    if not members:
        raise HintError(where, f"{own} has no members", "Give it some")
    if len(members) != len(list(kind)) or zero in members:
        problem = f"the members of {own} would not have names of their own; {zero} is taken"
        raise HintError(where, problem, "Rename those that differ only in case or underscores")
    doc = vars(kind).get("__doc__") or ""
    return Enumeration(name=name, doc="" if doc == "An enumeration." else doc, zero=zero, members=members)


def _is_one(there: Message | Enumeration, message: Message) -> bool:
    """Whether two messages are one in protobuf: only those that hints made necessary can be."""
    if isinstance(there, Enumeration) or there.source is not None or message.source is not None:
        return there is message
    return [(each.name, each.label, each.type) for each in there.fields] == [
        (each.name, each.label, each.type) for each in message.fields
    ]


def _origin(there: Message | Enumeration) -> str:
    if isinstance(there, Enumeration):
        kind: Any = type(next(iter(there.members.values())))
    elif there.source is None:
        return "one made for a list, a map, a request or a response"
    else:
        kind = there.source
    return f"{kind.__module__}.{kind.__qualname__}"
