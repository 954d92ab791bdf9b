"""Templates of one verb in a tree: a literal before ``*`` before ``**``, segment by segment, with backtracking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from fairlead.paths.target import Target
from fairlead.paths.template import Template

E = TypeVar("E")


class _Node(Generic[E]):
    __slots__ = ("ends", "literals", "many", "single")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[E]] = {}
        self.single: _Node[E] | None = None
        self.ends: dict[str, tuple[Template, E]] = {}
        """What ends here, by method."""
        self.many: dict[str, tuple[Template, E]] = {}
        """What ends here with ``**``, by method."""


class Trie(Generic[E]):
    """A tree of templates with an entry for each method.

    A search visits a node once at most, since ``**`` stands last: its steps are bounded by the number of nodes, however
    many segments the path has.
    """

    def __init__(self) -> None:
        self._root: _Node[E] = _Node()

    def add(self, template: Template, method: str, entry: E) -> None:
        """Adds a template for a method. One of the same shape and method is replaced."""
        node = self._root
        for segment in template.segments:
            if segment.many:
                node.many[method] = template, entry
                return
            if segment.literal is None:
                node.single = node.single or _Node()
                node = node.single
            else:
                node = node.literals.setdefault(segment.literal, _Node())
        node.ends[method] = template, entry

    def search(self, target: Target, segments: Sequence[str]) -> Iterator[dict[str, tuple[Template, E]]]:
        """What matches the path, by method, the most specific first. ``segments``: the target's without a verb."""
        stack: list[tuple[_Node[E], int, bool]] = [(self._root, 0, False)]
        while stack:
            node, depth, rest = stack.pop()
            if rest or depth == len(segments):
                if not rest and node.ends:
                    yield node.ends
                if node.many:
                    yield _admitted(node.many, segments, depth)
                continue
            if node.many:
                stack.append((node, depth, True))
            if node.single is not None and segments[depth]:
                stack.append((node.single, depth + 1, False))
            literal = node.literals.get(target.single(segments[depth])) if node.literals else None
            if literal is not None:
                stack.append((literal, depth + 1, False))


def _admitted(
    entries: dict[str, tuple[Template, E]], segments: Sequence[str], depth: int
) -> dict[str, tuple[Template, E]]:
    """Those whose captures are not empty."""
    if depth < len(segments) - 1 or (depth < len(segments) and segments[depth]):
        return entries
    return {method: found for method, found in entries.items() if not found[0].needs_rest}
