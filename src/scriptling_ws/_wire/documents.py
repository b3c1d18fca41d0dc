"""JSON and text: what `send` makes of a dict, and `receive_json` of a message.

Rules:

- The functions may be the program's (`dumps=`, `loads=`). What they do wrong is raised with their
  error as its cause, before anything is sent.
- A text is a str, or bytes that hold UTF-8 (RFC 6455 section 5.6), which nobody decodes here.
- A message that cannot be read has been taken all the same: the error keeps it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from .._errors import InvalidMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    Dumps = Callable[[Any], str | bytes]

__all__ = ["loaded", "text_of"]

_to_json: Final = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def text_of(message: object, dumps: Dumps | None = None) -> str | bytes:
    """The text that `send` sends for a message.

    Args:
        message: A str, or a dict.
        dumps: What makes text of a dict; None for compact JSON, as a str.

    Raises:
        TypeError: it is neither str nor dict, or the dict holds what `dumps` cannot say; or `dumps`
            has returned something else than str and bytes.
        ValueError: likewise; of JSON, that the dict holds NaN, infinity or itself, or is nested too
            deeply.
    """
    if isinstance(message, str):
        return message
    if not isinstance(message, dict):
        raise TypeError(_wrong_type(message))
    try:
        text = (dumps or _to_json)(message)
    except ValueError as error:
        raise ValueError(f"the dict cannot be sent as JSON: {error}") from error
    except TypeError as error:
        raise TypeError(f"the dict cannot be sent as JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("the dict cannot be sent as JSON: it is nested too deeply") from error
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"dumps has to return str or bytes, not {type(text).__name__}")
    return text


def _wrong_type(message: object) -> str:
    kind = type(message).__name__
    if isinstance(message, (list, tuple)):
        return (
            f"send() takes a str or a dict, not {kind}: use json.dumps() first to send it as JSON, "
            "or send_binary() for a list of byte values"
        )
    if isinstance(message, (bytes, bytearray, memoryview)):
        return (
            f"send() takes a str or a dict, not {kind}: use send_binary() for bytes and lists, or "
            "send_text() for a text that is encoded already"
        )
    return f"send() takes a str or a dict, not {kind}: use json.dumps() or str() first"


def loaded(message: str | bytes | list[int], loads: Callable[[Any], Any]) -> Any:
    """What `loads` makes of a message.

    Args:
        message: The message; a list is given to `loads` as bytes.
        loads: What makes a value of it.

    Raises:
        InvalidMessage: `loads` cannot read it.
    """
    document = bytes(message) if isinstance(message, list) else message
    try:
        return loads(document)
    except (MemoryError, OSError):
        raise  # no fault of the message: a TimeoutError is a signal handler's
    except Exception as error:
        text = str(error)
        shown = text if text.isprintable() else ascii(text)  # it may show what the peer has sent
        raise InvalidMessage(
            f"the message cannot be read as JSON: {shown} (this error has it as `message`)", message
        ) from error
