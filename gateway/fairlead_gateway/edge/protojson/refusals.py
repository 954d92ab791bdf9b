"""What goes wrong: a document that does not fit (their fault), a message that has no JSON (our side's fault)."""

from __future__ import annotations

# Names come from the document; an error shall not be as long as what it is about.
_LONGEST_NAME = 80


class JsonRefused(ValueError):
    """A JSON document does not fit the message type. ``str()`` names the JSON path of the field and the problem."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self._steps: list[str] = []

    @property
    def path(self) -> str:
        """The JSON path of the field, like ``user.tags[3]`` or ``labels["x"].id``; empty: the document itself."""
        return "".join(reversed(self._steps)).removeprefix(".")

    def under_field(self, name: object) -> JsonRefused:
        """The same, seen from the message that holds the field."""
        self._steps.append("." + _short(name))
        return self

    def under_index(self, index: int) -> JsonRefused:
        """The same, seen from the list that holds the item."""
        self._steps.append(f"[{index}]")
        return self

    def under_key(self, key: object) -> JsonRefused:
        """The same, seen from the map that holds the entry."""
        self._steps.append(f'["{_short(key)}"]')
        return self

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self._steps else self.problem


class UnknownEnumName(JsonRefused):
    """A string is not the name of a value of the enum; dropped if unknown fields are ignored."""


class NotRepresentable(ValueError):
    """A message has no JSON form: an Any of a type nobody knows, a time out of range, NaN in a Value."""


def _short(step: object) -> str:
    name = str(step)
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
