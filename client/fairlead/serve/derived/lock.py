"""The numbers of a derived service's fields, which stay as they are once they were given out. Pure.

What a lock knows is never forgotten: numbers of what was removed are not given to anything else, and what comes back
with the type that it had gets its number again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from fairlead.serve.derived.shapes import Enumeration, Field, Imported, Label, Message, Method, Scalar, Service

_SKIPPED = range(19000, 20000)
"""Numbers that protobuf keeps for itself."""


class LockedField(NamedTuple):
    """A field as it was given out."""

    number: int
    type: str
    label: str


class LockedMethod(NamedTuple):
    """A method as it was given out."""

    request: str
    response: str
    client_streaming: bool
    server_streaming: bool


@dataclass(slots=True)
class LockedMessage:
    """A message's numbers."""

    fields: dict[str, LockedField] = field(default_factory=dict)
    removed: dict[str, LockedField] = field(default_factory=dict)
    """Fields that are gone; their names may come back."""
    reserved: list[int] = field(default_factory=list)
    """Numbers whose names mean something else now."""

    def free(self) -> int:
        """A number that was never given out."""
        taken = [each.number for each in (*self.fields.values(), *self.removed.values())]
        number = max([0, *taken, *self.reserved]) + 1
        return _SKIPPED.stop if number in _SKIPPED else number


@dataclass(slots=True)
class LockedEnum:
    """An enum's numbers, without the zero value's."""

    values: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class LockedService:
    """All that was given out for one service. The order is the one in which it is printed."""

    source: str = ""
    """The file and the class that it was derived from: "app.py:Shop"."""
    methods: dict[str, LockedMethod] = field(default_factory=dict)
    messages: dict[str, LockedMessage] = field(default_factory=dict)
    enums: dict[str, LockedEnum] = field(default_factory=dict)


class Breaking(NamedTuple):
    """An edit that callers with the old .proto file would not survive."""

    where: str
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}. {self.fix}"


def advance(old: LockedService | None, service: Service) -> tuple[LockedService, list[Breaking]]:
    """The lock after ``old`` that has a number for everything of ``service``, and what breaks callers of ``old``.

    ``old`` stays as it is. Deterministic: the same pair gives the same lock.
    """
    return _Advance(old or LockedService(), service).run()


class _Advance:
    """One step of a lock."""

    def __init__(self, old: LockedService, service: Service) -> None:
        self._old = old
        self._service = service
        self._breaking: list[Breaking] = []
        self._asked = reachable(each.request for each in service.methods)
        self._answered = reachable(each.response for each in service.methods)

    def run(self) -> tuple[LockedService, list[Breaking]]:
        service = self._service
        new = LockedService(source=f"{service.module_file}:{service.source}", methods=self._methods())
        for name in dict.fromkeys([*self._old.messages, *service.messages]):
            new.messages[name] = self._message(name, service.messages.get(name))
        for name in dict.fromkeys([*self._old.enums, *service.enums]):
            new.enums[name] = self._enum(name, service.enums.get(name))
        return new, self._breaking

    def _break(self, where: str, reason: str, fix: str) -> None:
        self._breaking.append(Breaking(where, reason, fix))

    def _methods(self) -> dict[str, LockedMethod]:
        found = {each.name: each for each in self._service.methods}
        kept: dict[str, LockedMethod] = {}
        for name, was in self._old.methods.items():
            method = found.pop(name, None)
            if method is None:
                fix = "Keep it, if only to raise an error that says what to call instead"
                self._break(f"method {name}", "it is gone, and callers still call it", fix)
                continue
            kept[name] = now = _locked_method(method)
            if now != was:
                reason = f"it was {_manner(was)} and is {_manner(now)}"
                self._break(f"method {name}", reason, "Add a method with another name")
        return kept | {name: _locked_method(method) for name, method in found.items()}

    def _message(self, name: str, message: Message | None) -> LockedMessage:
        was = self._old.messages.get(name) or LockedMessage()
        new = LockedMessage(dict(was.fields), dict(was.removed), list(was.reserved))
        now = {each.name: each for each in message.fields} if message else {}
        for gone in [each for each in was.fields if each not in now]:
            new.removed[gone] = new.fields.pop(gone)
        for each in now.values():
            self._field(new, f"field {each.name!r} of {name}", each, was)
            if each.name not in was.fields and was.fields:
                self._check_new(name, each)
        new.fields = dict(sorted(new.fields.items(), key=lambda entry: entry[1].number))
        return new

    def _field(self, new: LockedMessage, where: str, now: Field, was: LockedMessage) -> None:
        """Gives a field its number."""
        known = new.fields.get(now.name)
        if known is not None:
            self._compare(where, known, now)
            if known.type == now.type and _is_one(known.label) == _is_one(now.label.value):
                new.fields[now.name] = LockedField(known.number, now.type, now.label.value)
                return
            new.reserved.append(known.number)
            new.fields.pop(now.name)
        back = new.removed.pop(now.name, None)
        if back is not None and (back.type, back.label) != (now.type, now.label.value):
            new.reserved.append(back.number)
            back = None
        number = back.number if back is not None else new.free()
        new.fields[now.name] = LockedField(number, now.type, now.label.value)

    def _compare(self, where: str, was: LockedField, now: Field) -> None:
        """Notes what a field's change breaks."""
        other = "Keep it as it was and add a field with another name"
        if was.type != now.type:
            self._break(
                where,
                f"its type was {_spelled(was.type, was.label)} and is {_spelled(now.type, now.label.value)}",
                other,
            )
        elif not (_is_one(was.label) and _is_one(now.label.value)):
            if was.label != now.label.value:
                self._break(where, f"it was {was.label} and is {now.label.value}", other)
        elif was.label == "optional" and now.label is Label.SINGULAR:
            self._break(where, "it could be left out and has to be there now", "Keep its default, or `| None`")
        elif was.label == "singular" and now.label is Label.OPTIONAL and self._is_in(where, self._answered):
            fix = "Always answer with a value, or add a field with another name"
            self._break(where, "it was always there in answers and may be absent now", fix)

    def _is_in(self, where: str, names: frozenset[str]) -> bool:
        return where.rpartition(" of ")[2] in names

    def _check_new(self, message: str, now: Field) -> None:
        """Notes a new field that callers cannot know and must send."""
        if message in self._asked and now.label is Label.SINGULAR and not isinstance(now.element, Scalar):
            reason = "it is new and has to be there, and callers that do not know it would be refused"
            self._break(f"field {now.name!r} of {message}", reason, "Give it a default")

    def _enum(self, name: str, enumeration: Enumeration | None) -> LockedEnum:
        was = self._old.enums.get(name) or LockedEnum()
        new = LockedEnum(dict(was.values), dict(was.removed))
        now = enumeration.members if enumeration else {}
        for gone in [each for each in was.values if each not in now]:
            new.removed[gone] = new.values.pop(gone)
            if enumeration and name in self._asked:
                self._break(
                    f"{gone} of {name}", "it is gone, and callers still send it", "Keep it, and refuse it in the method"
                )
        for value in now:
            if value not in new.values:
                taken = [0, *new.values.values(), *new.removed.values()]
                back = new.removed.pop(value, None)
                new.values[value] = max(taken) + 1 if back is None else back
        new.values = dict(sorted(new.values.items(), key=lambda entry: entry[1]))
        return new


def reachable(roots: Iterator[Message]) -> frozenset[str]:
    """The names of the messages and enums that can stand in any of the roots, themselves included."""
    seen: set[str] = set()
    pending: list[Message] = list(roots)
    while pending:
        message = pending.pop()
        if message.name in seen:
            continue
        seen.add(message.name)
        for each in message.fields:
            if isinstance(each.element, Message):
                pending.append(each.element)
            elif not isinstance(each.element, Imported):
                seen.add(each.element.name)
    return frozenset(seen)


def _locked_method(method: Method) -> LockedMethod:
    return LockedMethod(method.request.name, method.response.name, method.client_streaming, method.server_streaming)


def _manner(method: LockedMethod) -> str:
    asked = f"stream {method.request}" if method.client_streaming else method.request
    answered = f"stream {method.response}" if method.server_streaming else method.response
    return f"({asked}) returns ({answered})"


def _is_one(label: str) -> bool:
    return label in ("singular", "optional")


def _spelled(name: str, label: str) -> str:
    return f"repeated {name}" if label == "repeated" else name
