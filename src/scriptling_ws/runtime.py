"""What a setup script registers: `runtime.http`.

    import scriptling.runtime as runtime

    runtime.http.websocket("/chat", "handlers.chat_handler")

Rules:

- `http` is one table for the process: the command line serves it after the setup
  script has run, and so does `Server(routes=runtime.http)`.
- What is registered wrongly fails at the line that registers it.
- The server that the command line runs is `http.server`, for the handlers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._handshakes.cookies import make_cookie
from ._handshakes.head import Request
from ._server import response as _response
from ._server.response import Response
from ._server.routes import Routes

if TYPE_CHECKING:
    from ._handshakes.cookies import SameSite
    from ._server.server import Server

__all__ = ["HTTP", "Request", "Response", "http"]


class HTTP(Routes):
    """A table of routes, with what their page handlers return within reach.

    Attributes:
        server: The server that the command line runs, once it listens; None before, and where a
            program makes its own.
    """

    server: Server | None = None

    html = staticmethod(_response.html)
    json = staticmethod(_response.json)
    text = staticmethod(_response.text)
    redirect = staticmethod(_response.redirect)

    @staticmethod
    def cookie(
        request: Request,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        path: str | None = None,
        domain: str | None = None,
        http_only: bool = True,
        same_site: SameSite = "Lax",
        secure: bool | None = None,
    ) -> tuple[str, str]:
        """A cookie as a header, for answers that are no `Response`, such as that to an upgrade.

        A page uses `Response.with_cookie`, which describes the arguments and errors.

        Args:
            request: The request that is answered: a cookie is Secure if that came by TLS.
            name: Its name.
            value: Its value.
            max_age: The seconds that it lasts; None until the browser ends.
            path: The path below which it is sent; by default all of this server's.
            domain: A domain whose other hosts get it too; by default this host alone.
            http_only: Whether scripts in the page cannot read it.
            same_site: Which requests of other sites have it.
            secure: Whether it is sent by TLS alone; by default if the request came so.

        Returns:
            The header, `("Set-Cookie", ...)`.
        """
        cookie = make_cookie(
            name,
            value,
            max_age=max_age,
            path=path,
            domain=domain,
            http_only=http_only,
            same_site=same_site,
            secure=secure,
        )
        return "Set-Cookie", cookie.text(request.root_path, secure=request.secure)


http: HTTP = HTTP()
"""The process's own table."""
