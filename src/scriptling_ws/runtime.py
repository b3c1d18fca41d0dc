"""What a setup script registers: `runtime.http`.

    import scriptling.runtime as runtime

    runtime.http.websocket("/chat", "handlers.chat_handler")

Rules:

- `http` is one table for the process: the command line serves it after the setup
  script has run, and so does `Server(routes=runtime.http)`.
- What is registered wrongly fails at the line that registers it.
"""

from __future__ import annotations

from . import _http
from ._head import Request
from ._http import Response
from ._routes import Routes

__all__ = ["HTTP", "Request", "Response", "http"]


class HTTP(Routes):
    """A table of routes, with what their page handlers return within reach."""

    html = staticmethod(_http.html)
    json = staticmethod(_http.json)
    text = staticmethod(_http.text)


http = HTTP()
"""The process's own table."""
