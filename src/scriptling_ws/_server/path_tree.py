"""Paths by their segments: which routes a request's path leads to, the most specific first.

Rules:

- A path without parameters is found first, by one look-up of the whole.
- Of the others, segment by segment, what is written out goes before a parameter, and that before
  all that is left (`{name:path}`, then a directory). So `/room/help` goes before `/room/{name}`,
  and that before `/{rest:path}`, in whichever order they were registered.
- A parameter is one segment, and not empty. All that is left may end with a slash, or be empty
  behind one, but has no empty segment in it: it never begins with a slash, and by `paths` has no
  dots, so that it may be joined to a folder's path.
- What a look-up costs depends on how long the routes are, not on how many there are: at each
  segment at most two ways lead on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from .._handshakes.paths import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["PathTree", "shape"]

_Value = TypeVar("_Value")


def shape(segments: Sequence[str | Parameter]) -> str:
    """What two routes' paths have in common that no request can tell apart.

    Args:
        segments: What `check_pattern` returns.
    """
    parts = [
        ("{:path}" if part.rest else "{}") if isinstance(part, Parameter) else part
        for part in segments
    ]
    return "/" + "/".join(parts)


class _Leaf(Generic[_Value]):
    """What a path leads to, and the names of its parameters."""

    __slots__ = ("names", "value")

    def __init__(self, value: _Value, names: tuple[str, ...] = ()) -> None:
        self.value = value
        self.names = names


class _Node(Generic[_Value]):
    """A segment of some routes.

    Attributes:
        literal: What follows, by the next segment.
        parameter: What follows any next segment.
        here: What a path that ends here leads to.
        rest: What any path that goes on leads to.
        below: What it leads to if nothing else does, and also one that ends here.
    """

    __slots__ = ("below", "here", "literal", "parameter", "rest")

    def __init__(self) -> None:
        self.literal: dict[str, _Node[_Value]] = {}
        self.parameter: _Node[_Value] | None = None
        self.here: _Leaf[_Value] | None = None
        self.rest: _Leaf[_Value] | None = None
        self.below: _Leaf[_Value] | None = None


class PathTree(Generic[_Value]):
    """Values by the paths of their routes. It grows, and is looked up in, by one thread each."""

    def __init__(self) -> None:
        self._whole: dict[str, _Value] = {}
        self._root: _Node[_Value] = _Node()
        self._branched = False  # whether there is more than whole paths

    def add(self, segments: Sequence[str | Parameter], value: _Value) -> None:
        """Add a route, whose `shape` no other has.

        Args:
            segments: What `check_pattern` returns.
            value: What its path leads to.
        """
        names = tuple(part.name for part in segments if isinstance(part, Parameter))
        if not names:
            self._whole[shape(segments)] = value
            return
        self._branched = True
        node = self._root
        for part in segments:
            if not isinstance(part, Parameter):
                node = node.literal.setdefault(part, _Node())
            elif part.rest:
                node.rest = _Leaf(value, names)
                return
            else:
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
        node.here = _Leaf(value, names)

    def add_below(self, prefix: str, value: _Value) -> None:
        """Add what answers a path and all below it.

        Args:
            prefix: The path, without a slash at its end unless it is one alone.
            value: What it leads to.
        """
        self._branched = True
        node = self._root
        for part in prefix[1:].split("/") if prefix != "/" else ():
            node = node.literal.setdefault(part, _Node())
        node.below = _Leaf(value)

    def whole(self, path: str) -> _Value | None:
        """What has exactly this path, without parameters."""
        return self._whole.get(path)

    def matches(self, path: str) -> Iterator[tuple[_Value, dict[str, str]]]:
        """What a request's path leads to, and its parameters; the most specific first."""
        value = self._whole.get(path)
        if value is not None:
            yield value, {}
        if self._branched:
            segments = path[1:].split("/")
            for leaf, taken in _walk(self._root, segments, 0, ()):
                yield leaf.value, dict(zip(leaf.names, taken, strict=True))


def _walk(
    node: _Node[_Value], segments: list[str], start: int, taken: tuple[str, ...]
) -> Iterator[tuple[_Leaf[_Value], tuple[str, ...]]]:
    """What the segments from `start` on lead to from a node, and what parameters are by then.

    It is no deeper than the longest route, however long the path is.
    """
    if start == len(segments):
        if node.here is not None:
            yield node.here, taken
    else:
        segment = segments[start]
        if segment in node.literal:
            yield from _walk(node.literal[segment], segments, start + 1, taken)
        if segment and node.parameter is not None:
            yield from _walk(node.parameter, segments, start + 1, (*taken, segment))
        if node.rest is not None and all(segments[start:-1]):
            yield node.rest, (*taken, "/".join(segments[start:]))
    if node.below is not None:
        yield node.below, ()
