"""A digest of pickled code and arguments that is the same in each run of an unchanged program.

The bytes that cloudpickle makes are not: classes get random ids, sets come in the order of randomized hashes, a
notebook's files are named after its process. So the bytes are read as what they would make, without making it: every
class, function and instance stands for itself by a record of how it is made. Those records are digested.

Whatever is in doubt counts: two digests that differ may mean the same, two that are equal mean the same.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

_LIMIT = 500_000
"""Values above which the bytes themselves are digested: about a second's work."""
_CLOUDPICKLE = "cloudpickle.cloudpickle"
_MAKERS_OF_CLASSES = {(_CLOUDPICKLE, "_make_skeleton_class"), (_CLOUDPICKLE, "_make_skeleton_enum")}
_ACCIDENTAL_ARGUMENTS = {
    (_CLOUDPICKLE, "_make_skeleton_class"): 4,  # a random id, which makes it one class however often it is sent
    (_CLOUDPICKLE, "_make_skeleton_enum"): 5,
    (_CLOUDPICKLE, "_make_typevar"): 5,
    ("types", "CodeType"): 10,  # the name of the source file: a notebook's has a process id in it
}
_OF_SCHEMAS = {
    ("pydantic_core._pydantic_core", "SchemaSerializer"),
    ("pydantic_core._pydantic_core", "SchemaValidator"),
}
"""Made by pydantic of schemas, whose parts it names by addresses in memory."""
_DERIVED_KEYS = {"__pydantic_core_schema__", "__pydantic_serializer__", "__pydantic_validator__", "__slotnames__"}
"""Attributes of classes that follow from others: those, too, name addresses, or pickling an instance leaves them."""
_DERIVED_ATTRIBUTES = {
    ("pydantic._internal._decorators", "Decorator"): {"cls_ref"},
    ("pydantic.type_adapter", "TypeAdapter"): {"core_schema", "serializer", "validator"},
}
"""Of instances."""


def pickled_digest(*pickles: bytes) -> str:
    """The digest of some pickles, each of which may be empty; loads and imports nothing. Empty if all are."""
    if not any(pickles):
        return ""
    digest = hashlib.sha256()
    for pickled in pickles:
        digest.update(_digest(pickled))
    return digest.hexdigest()[:32]


def _digest(pickled: bytes) -> bytes:
    if not pickled:
        return hashlib.sha256().digest()
    try:
        return _Walk(_Budget(_LIMIT)).digest(_Reader(io.BytesIO(pickled)).load())
    except Exception:  # made in a way that is not understood, or too much of it: then any other byte is a change
        return hashlib.sha256(pickled).digest()


class _Kind(type):
    """The type of what stands for classes and functions: they may be called, and instances of them be made."""

    history: list[tuple[Any, ...]]

    def __call__(cls, *args: Any) -> Any:
        return _call(cls, args)

    @property
    def __setstate__(cls) -> Any:
        return lambda state: cls.history.append(("state", state))


class _Made(metaclass=_Kind):
    """What stands for an instance: how it was made, and what was done to it since."""

    history: list[tuple[Any, ...]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = object.__new__(cls)
        made.history = [("new", cls, _essential(cls, args), kwargs)]
        return made

    def __call__(self, *args: Any) -> Any:
        return _call(self, args)

    def __setstate__(self, state: Any) -> None:
        self.history.append(("state", _essential_state(self.history[0][1], state)))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.history.append(("item", key, value))

    def append(self, value: Any) -> None:
        self.history.append(("append", value))

    def add(self, value: Any) -> None:
        self.history.append(("add", value))


def _call(function: Any, args: tuple[Any, ...]) -> Any:
    name = _name_of(function)
    if name == (_CLOUDPICKLE, "_builtin_type") and args == ("CodeType",):
        return _global("types", "CodeType")
    history = [("call", function, _essential(function, args))]
    if len(args) == 2 and isinstance(args[0], _Kind | _Made) and _name_of(args[0]) is None:
        args[0].history.append(("done", function, args[1]))  # pickle's way to set a state, whose result is dropped
    if name in _MAKERS_OF_CLASSES:
        return _Kind("class", (_Made,), {"history": history})
    made = object.__new__(_Made)
    made.history = history
    return made


def _essential(function: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    name = _name_of(function)
    if name in _OF_SCHEMAS:
        return (_renamed(args, {}),)
    index = _ACCIDENTAL_ARGUMENTS.get(name) if name else None
    if index is not None and len(args) > index:
        return (*args[:index], None, *args[index + 1 :])
    if len(args) == 1 and isinstance(args[0], list) and _is_set(function):
        return (frozenset(args[0]),)
    return args


def _renamed(schema: Any, names: dict[str, str]) -> Any:
    """A schema with names of parts that no address goes into: their numbers."""
    if isinstance(schema, list | tuple):
        return [_renamed(part, names) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: names.setdefault(part, f"part {len(names)}")
        if key in ("ref", "schema_ref") and isinstance(part, str)
        else _renamed(part, names)
        for key, part in schema.items()
    }


def _essential_state(kind: Any, state: Any) -> Any:
    dropped = _DERIVED_ATTRIBUTES.get(_name_of(kind) or ("", ""))
    if dropped is None:
        return state
    parts = state if isinstance(state, tuple) else (state,)
    return [{key: value for key, value in part.items() if key not in dropped} for part in parts if part is not None]


def _is_set(kind: Any) -> bool:
    """Whether it is a kind of set, as far as this program has imported it; a class by value if one of its bases is."""
    name = _name_of(kind)
    if name is None:
        what, *made = kind.history[0]
        by_value = what == "call" and _name_of(made[0]) == (_CLOUDPICKLE, "_make_skeleton_class")
        return by_value and any(_is_set(base) for base in made[1][2])
    found = getattr(sys.modules.get(name[0]), name[1], None)
    return isinstance(found, type) and issubclass(found, set | frozenset | WeakSet)


def _global(module: str, name: str) -> _Kind:
    return _Kind("name", (_Made,), {"history": [("name", module, name)]})


def _name_of(thing: Any) -> tuple[str, str] | None:
    """Module and name of what is imported; None for anything else."""
    kind, *rest = thing.history[0]
    return (rest[0], rest[1]) if kind == "name" else None


class _Reader(pickle.Unpickler):
    """Reads a pickle without importing anything."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._names: dict[tuple[str, str], _Kind] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Called for every name."""
        return self._names.setdefault((module, name), _global(module, name))


class _Budget:
    def __init__(self, values: int) -> None:
        self.left = values

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OverflowError


class _Walk:
    """Records of a graph of values: those seen before are records of where they were first seen.

    Seen are only values that live as long as the graph: identities of others may come again.
    """

    def __init__(self, budget: _Budget, seen: dict[int, int] | None = None) -> None:
        self._budget = budget
        self._seen: dict[int, int] = {} if seen is None else seen

    def digest(self, value: Any) -> bytes:
        """Of the records of a value."""
        found = hashlib.sha256()
        for record in self._records(value):
            found.update(record)
        return found.digest()

    def _records(self, value: Any) -> Iterator[bytes | bytearray]:
        """The records, one after the other; no other value has the same ones."""
        self._budget.spend()
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | bytearray):
            data = value if isinstance(value, bytes | bytearray) else repr(value).encode("utf-8", "surrogatepass")
            yield b"%s %d;" % (type(value).__name__.encode(), len(data))
            yield data
            return
        if not (isinstance(value, tuple) and _is_plain(value)):
            number = self._seen.get(id(value))
            if number is not None:
                yield b"seen %d;" % number
                return
            self._seen[id(value)] = len(self._seen)
        if isinstance(value, _Kind | _Made):
            yield from self._sequence(b"made", value.history)
        elif isinstance(value, dict):
            yield from self._dict(value)
        elif isinstance(value, set | frozenset):
            yield from self._sequence(type(value).__name__.encode(), sorted(value, key=self._key))
        else:
            yield from self._sequence(type(value).__name__.encode(), value)

    def _sequence(self, kind: bytes, values: Any) -> Iterator[bytes | bytearray]:
        yield b"%s %d;" % (kind, len(values))
        for value in values:
            yield from self._records(value)

    def _dict(self, value: dict[Any, Any]) -> Iterator[bytes | bytearray]:
        pairs = [(key, part) for key, part in value.items() if key not in _DERIVED_KEYS]
        yield b"dict %d;" % len(pairs)
        for key, part in pairs:
            yield from self._records(key)
            if key == "_abc_impl" and isinstance(part, list):  # subclasses by registration: cloudpickle's list of a set
                yield from self._sequence(b"set", sorted(part, key=self._key))
            else:
                yield from self._records(part)

    def _key(self, value: Any) -> bytes:
        return _Walk(self._budget, dict(self._seen)).digest(value)


def _is_plain(value: tuple[Any, ...]) -> bool:
    """Whether it is a value rather than a thing: whether two equal ones are one object is then an accident."""
    return all(
        part is None
        or isinstance(part, bool | int | float | complex | str | bytes)
        or (isinstance(part, tuple) and _is_plain(part))
        for part in value
    )
