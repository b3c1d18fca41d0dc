"""What a setup script registers: `runtime.http`.

    import scriptling.runtime as runtime

    runtime.http.websocket("/chat", "handlers.chat_handler")

Rules:

- `http` is one table for the process: the command line serves it after the setup
  script has run, and so does `Server(routes=runtime.http)`.
- What is registered wrongly fails at the line that registers it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _http
from ._head import Request
from ._http import Response
from ._routes import Routes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HTTP", "Request", "Response", "http"]


class HTTP(Routes):
    """A table of routes, with what their page handlers return within reach."""

    @staticmethod
    def html(status: int, body: str, headers: Mapping[str, str] | None = None) -> Response:
        """A page of HTML as the result of a page handler.

        Args:
            status: The HTTP status, 200 to 599.
            body: The page.
            headers: More headers for the response.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: the status or a header cannot be sent.
        """
        return _http.html(status, body, headers)

    @staticmethod
    def json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
        """A value as JSON as the result of a page handler.

        Args:
            status: The HTTP status, 200 to 599.
            value: What `json.dumps` takes; NaN and infinity are refused, JSON has none.
            headers: More headers for the response.

        Raises:
            TypeError: the value holds something that JSON cannot say.
            ValueError: it holds NaN, itself or a lone surrogate; or the status or a header
                cannot be sent.
        """
        return _http.json(status, value, headers)

    @staticmethod
    def text(status: int, body: str, headers: Mapping[str, str] | None = None) -> Response:
        """Plain text as the result of a page handler; arguments and errors as for `html`."""
        return _http.text(status, body, headers)


http: HTTP = HTTP()
"""The process's own table."""
