"""What hints mean: the messages, enums and fields that they become, and how Python's values come of them.

Numbers are not here: they are the lock's. Nothing here knows descriptors either, so that reading a class costs no
protobuf.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Convert: TypeAlias = Callable[[Any], Any]
"""Raises ValueError or TypeError for values that cannot be."""


class Label(enum.Enum):
    """How often a field is there."""

    SINGULAR = "singular"
    OPTIONAL = "optional"
    """With presence: whether it was sent is known."""
    REPEATED = "repeated"
    MAP = "map"


class Absent(enum.Enum):
    """What a field that was not sent means, where that can be seen."""

    REFUSED = "refused"
    """An error: there is no value to go on with."""
    NONE = "none"
    OMITTED = "omitted"
    """Nothing is passed, so that Python's own default applies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A scalar type of protobuf."""

    name: str
    """As in a .proto file: "int64"."""
    label: str
    """As in the names of messages that are made for lists of it: "Int64"."""
    decode: Convert | None = None
    """From what protobuf gives; None: it is the value."""
    encode: Convert | None = None
    """To what protobuf takes, with the check that it is that; None: protobuf's own check will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A message of a file that the derived one imports."""

    name: str
    """Its full name: "google.protobuf.Timestamp"."""
    file: str
    """What to import."""
    decode: Convert
    """From the message."""
    encode: Callable[[Any, Any], None]
    """``encode(message, value)`` fills an empty message."""
    note: str = ""
    """What a comment should say of it: "float32"."""

    @property
    def label(self) -> str:
        """As in the names of messages that are made for lists of it."""
        return self.name.rpartition(".")[2]


@dataclass(eq=False, slots=True, kw_only=True)
class Enumeration:
    """An enum."""

    name: str
    doc: str
    zero: str
    """The name of the value that means "none of them"."""
    members: dict[str, Any]
    """Names in protobuf, prefix included, to Python's members."""

    @property
    def label(self) -> str:
        """As in the names of messages that are made for lists of it."""
        return self.name


@dataclass(eq=False, slots=True, kw_only=True)
class Message:
    """A message, and the Python values that it stands for."""

    name: str
    doc: str
    source: Any
    """The class that it was made of; for messages that hints made necessary, None."""
    build: Callable[[dict[str, Any]], Any]
    """A value from its fields by key. Raises ValueError or TypeError."""
    check: Callable[[Any], None]
    """Raises TypeError for a value that the message cannot stand for."""
    read: Callable[[Any, str], Any]
    """The value of one field of a value; ``OMITTED`` if it has none."""
    fields: list[Field] = field(default_factory=list)

    @property
    def label(self) -> str:
        """As in the names of messages that are made for lists of it."""
        return self.name


Element: TypeAlias = Scalar | Imported | Enumeration | Message
"""What one value of a field is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a message."""

    name: str
    """In protobuf."""
    key: str
    """In Python: the parameter, the attribute."""
    label: Label
    element: Element
    key_element: Scalar | None = None
    """What a map's keys are."""
    absent: Absent = Absent.REFUSED
    make: Convert | None = None
    """Makes Python's collection out of a list or dict; None: it is the value."""
    check: Convert | None = None
    """Checks a value that came, and may change it; None: any will do."""
    doc: str = ""

    @property
    def type(self) -> str:
        """The type as the lock and messages name it: "int64", "Point", "map<string, Point>"."""
        name = self.element.name
        return f"map<{self.key_element.name}, {name}>" if self.key_element else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method of the service."""

    name: str
    """In protobuf: "ClassifyAll"."""
    python_name: str
    doc: str
    request: Message
    response: Message
    client_streaming: bool = False
    server_streaming: bool = False
    stream_key: str = ""
    """The parameter that gets the caller's messages; empty: none does."""
    passed_as: str = ""
    """The parameter that gets the request message as a whole; empty: its fields are the parameters."""
    positional: tuple[str, ...] = ()
    """The parameters that must be passed by position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service with all that its file defines."""

    package: str
    name: str
    doc: str
    source: str
    """The class that it was derived from."""
    module_file: str
    """The name of the file that the class stands in, "app.py"; empty: it stands in none."""
    methods: tuple[Method, ...]
    messages: dict[str, Message]
    enums: dict[str, Enumeration]

    @property
    def full_name(self) -> str:
        """With the package."""
        return f"{self.package}.{self.name}"

    @property
    def file(self) -> str:
        """The path of its .proto file, where buf expects it."""
        return f"{self.package.replace('.', '/')}/{self.package.rpartition('.')[0].rpartition('.')[2]}.proto"

    def imports(self) -> Iterator[str]:
        """The files that the derived one imports for its fields."""
        elements = [each.element for message in self.messages.values() for each in message.fields]
        return iter(sorted({each.file for each in elements if isinstance(each, Imported)}))


class _Omitted(enum.Enum):
    OMITTED = 0


OMITTED = _Omitted.OMITTED
"""There is no value."""
