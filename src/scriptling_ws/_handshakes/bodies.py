"""What is in a request's body: JSON, or the fields of a form.

Rules (RFC 8259, RFC 9110 section 8.3, and "URL-encoded" of the URL Standard):

- A body is read as what its Content-Type says, and as nothing else: 415. A stranger's page may
  send a form or plain text to any server, with the user's cookies, but no JSON by that name
  unless the server was asked before (CORS). A body of JSON that is taken for what it looks like
  would come past that.
- What is malformed is the client's mistake: BadBody is the answer 400 or 415, and a ValueError for
  a handler that looks at it.
- JSON is UTF-8, and has neither NaN nor infinity. How deep it goes is bounded by the interpreter.
- A form has a bounded number of fields. As in a query, what is not UTF-8 is replaced.
- Files (multipart/form-data) are not read: a body is kept in memory, up to `max_body_size`.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

from .refused import Refused

__all__ = ["BadBody", "Form", "read_form", "read_json"]

_FORM: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
_JSON: Final = "application/json"
_MOST_FIELDS: Final = 1000


class BadBody(Refused, ValueError):
    """A body that is not what the handler asked for; where nobody catches it, it is the answer."""


class Form(dict[str, str]):
    """The fields of a form by their names; of one that came twice, the last."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        """Take fields in their order."""
        super().__init__(fields)
        self._fields = fields

    def __repr__(self) -> str:
        return f"Form(<{len(self)} fields>)"  # no values: one may be a password

    def get_list(self, name: str) -> list[str]:
        """All values of a field, in their order; empty if it is not there."""
        return [value for field, value in self._fields if field == name]


def read_json(content_type: str, body: bytes) -> Any:
    """The value that a body of JSON has.

    Args:
        content_type: The header, "" if there is none.
        body: The body.

    Raises:
        BadBody: 415 if it is said to be something else, 400 if it is malformed.
    """
    kind = _media_type(content_type)
    if kind != _JSON and not (kind.startswith("application/") and kind.endswith("+json")):
        raise BadBody(415, f"send JSON, with Content-Type: {_JSON}")
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BadBody(400, "the body is not UTF-8, as JSON has to be") from error
    except RecursionError as error:
        raise BadBody(400, "the body's JSON is nested too deeply") from error
    except ValueError as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadBody(400, f"the body is not JSON{where}") from error


def read_form(content_type: str, body: bytes) -> Form:
    """The fields that a form's body has.

    Args:
        content_type: The header, "" if there is none.
        body: The body.

    Raises:
        BadBody: 415 if it is said to be something else, 400 if it has too many fields.
    """
    kind = _media_type(content_type)
    if kind == _MULTIPART:
        raise BadBody(
            415,
            f"forms with files are not taken here: send the form as {_FORM}, without "
            "enctype, and a file by fetch(url, {method: 'POST', body: file}) or a WebSocket",
        )
    if kind != _FORM:
        raise BadBody(415, f"send a form, with Content-Type: {_FORM}")
    try:
        fields = parse_qsl(
            body.decode("utf-8", "replace"),
            keep_blank_values=True,
            errors="replace",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError as error:
        raise BadBody(400, f"the form has more than {_MOST_FIELDS} fields") from error
    return Form(fields)


def _media_type(content_type: str) -> str:
    """The type alone, without parameters, in lower case (RFC 9110 section 8.3.1)."""
    return content_type.partition(";")[0].strip(" \t").lower()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
