"""Functions of the program, as callers give them: refused where a call would run nothing of them.

Rules:

- A call of a function that is asynchronous, or has a `yield` in it, runs nothing. It returns an
  object that is true, whatever the function would have said: of a check of passwords that would let
  everybody in. So it is refused where it is given.
- A function around such a one cannot be known by its looks; its result can. What decides by a
  result asks `comes_later` first; a handler's is looked at by `check_handled`.
"""

from __future__ import annotations

import functools
import inspect
from types import AsyncGeneratorType, CoroutineType, GeneratorType

__all__ = ["check_handled", "check_runs", "comes_later"]


def check_runs(function: object, name: str, hint: str = "") -> None:
    """Check that a call of a function runs it.

    Args:
        function: What can be called; None is taken.
        name: Its name, for the error.
        hint: For the error of one with a `yield`, what to do, as the end of the sentence.

    Raises:
        TypeError: it is asynchronous or a generator function.
    """
    inner = function.func if isinstance(function, functools.partial) else function
    # The object itself, or what its class does for it.
    calls = (inner, type(inner).__call__ if callable(inner) else None)
    if any(inspect.iscoroutinefunction(c) or inspect.isasyncgenfunction(c) for c in calls):
        raise TypeError(f"{name} is asynchronous and would never run here: write 'def'")
    if any(inspect.isgeneratorfunction(call) for call in calls):
        raise TypeError(
            f"{name} has a 'yield' in it, so calling it would run nothing: write it without{hint}"
        )


def comes_later(result: object) -> bool:
    """Whether a result is no answer yet: a coroutine, a future, a generator that nobody has run."""
    if isinstance(result, CoroutineType):
        result.close()  # else Python warns that it was never awaited
    kind = type(result)
    # Futures of `concurrent.futures` cannot be awaited.
    later = hasattr(kind, "__await__") or hasattr(kind, "add_done_callback")
    return later or isinstance(result, (AsyncGeneratorType, GeneratorType))


def check_handled(result: object) -> None:
    """Check that a handler has run, by what it has returned, which else is ignored.

    Raises:
        TypeError: it has not, or goes on elsewhere.
    """
    if comes_later(result):
        raise TypeError(
            f"the handler returned a {type(result).__name__}: it has to have done its work as it "
            "returns, so write 'def', and wait for what it starts"
        )
