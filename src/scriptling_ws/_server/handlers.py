"""Handlers: their names resolved, and what cannot serve refused where it is registered.

Rules:

- A reference ("library.function") is resolved when it is registered, and a bad one fails
  there. Nothing from a request chooses an import.
- A reference never leads into the standard library: "os.system" would run, and no
  module of it holds a WebSocket handler.
- What fails at its first call, or does nothing there, fails here: a handler that cannot be
  called with one argument, is asynchronous, or has a `yield` in it.
- What cannot be known beforehand is taken: code in C without a signature, and what a
  decorator's function passes on.
"""

from __future__ import annotations

import importlib
import inspect
import keyword
import sys
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Final

from .._functions import check_runs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_handler", "resolve"]

_YIELD: Final = " (call client.send for each message; a page returns its whole answer)"


def resolve(reference: str) -> Callable[..., object]:
    """The function that "library.function" names. Imports the library.

    Args:
        reference: A module's absolute dotted name, a dot, and a name in it.

    Raises:
        TypeError: what it names is not callable.
        ValueError: it is malformed, or names something of the standard library.
        ImportError: there is no such module, or nothing of that name in it. What
            the module itself raises while it is imported is raised as it is.
    """
    parts = reference.split(".")
    if len(parts) < 2 or not all(
        part.isidentifier() and not keyword.iskeyword(part) for part in parts
    ):
        raise ValueError(
            f"{reference!r} is not a handler: write 'library.function', such as 'handlers.chat'"
        )
    module_name, name = ".".join(parts[:-1]), parts[-1]
    if _is_standard(parts[0]):
        raise ValueError(
            f"{reference!r} is in Python's standard library: a handler has to be in "
            "a module of your own (rename it if it has a standard module's name)"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there, but something that it imports is not
        raise ImportError(
            f"there is no module {error.name!r} for the handler {reference!r}: is its "
            "directory on the module path (scriptling-ws -L DIR)?"
        ) from error
    try:
        function = getattr(module, name)
    except AttributeError as error:
        raise ImportError(f"the module {module_name!r} has no {name!r}") from error
    if isinstance(function, (FunctionType, BuiltinFunctionType)) and _is_standard(
        (function.__module__ or "").partition(".")[0]
    ):
        raise ValueError(f"{reference!r} is a function of Python's standard library")
    return _check_callable(function, reference)


def _is_standard(module: str) -> bool:
    return module in sys.stdlib_module_names or module in sys.builtin_module_names


def _check_callable(function: object, name: str, what: str = "handler") -> Callable[..., object]:
    if not callable(function):
        raise TypeError(f"the {what} {name!r} is not a function, but {type(function).__name__}")
    return function


def check_handler(
    handler: object, argument: str = "client", what: str = "handler"
) -> Callable[..., object]:
    """A handler as it was registered, a function or its name, as a function.

    Args:
        handler: The handler.
        argument: What it is called with: "client", or a page's "request".
        what: What it is, for errors.

    Raises:
        TypeError: it is not callable, or not with that alone; or calling it would run nothing
            of it, as it is asynchronous or a generator function.
        ValueError: as `resolve`.
        ImportError: as `resolve`.
    """
    if isinstance(handler, str):
        name, function = handler, resolve(handler)
    else:
        name = getattr(handler, "__qualname__", repr(handler))
        function = _check_callable(handler, name, what)
    check_runs(function, f"the {what} {name!r}", _YIELD)
    _check_arguments(function, f"the {what} {name!r}", argument)
    return function


def _check_arguments(function: Callable[..., object], name: str, argument: str) -> None:
    try:
        # Not what a decorator has wrapped: that may take more, which the decorator adds.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # written in C, as many are: nothing is known of its arguments
    try:
        signature.bind(object())
    except TypeError as error:
        raise TypeError(
            f"{name} cannot be called with the {argument} alone ({error}): it "
            f"has to take one argument, as 'def function({argument})' does; to give it more, "
            "use functools.partial"
        ) from None
