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

from typing import TYPE_CHECKING, Any

from ._handshakes.cookies import make_cookie
from ._handshakes.head import Request
from ._server import response as _response
from ._server.response import Response
from ._server.routes import Routes

if TYPE_CHECKING:
    from ._handshakes.cookies import SameSite
    from ._server.response import Headers
    from ._server.server import Server

__all__ = ["HTTP", "Request", "Response", "http"]


class HTTP(Routes):
    """A table of routes, with what their page handlers return within reach.

    Attributes:
        server: The server that the command line runs, once it listens; None before, and where a
            program makes its own.
    """

    server: Server | None = None

    @staticmethod
    def html(status: int, body: str, headers: Headers = None) -> Response:
        """A page of HTML as the result of a page handler.

        Args:
            status: The HTTP status, 200 to 599.
            body: The page.
            headers: More headers for the response, as a dict, or as pairs where one comes
                several times: `[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]`.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: the status or a header cannot be sent.
        """
        return _response.html(status, body, headers)

    @staticmethod
    def json(status: int, value: Any, headers: Headers = None) -> Response:
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
        return _response.json(status, value, headers)

    @staticmethod
    def text(status: int, body: str, headers: Headers = None) -> Response:
        """Plain text as the result of a page handler; arguments and errors as for `html`."""
        return _response.text(status, body, headers)

    @staticmethod
    def redirect(
        location: str, status: int = 303, headers: Headers = None, *, absolute: bool = False
    ) -> Response:
        """A redirect as the result of a page handler.

        Args:
            location: A path of this server, such as "/done", "./done" or "?page=2".
            status: 303 (the default), 302, 307, or one that browsers keep for good: 301, 308.
            headers: More headers for the response.
            absolute: Whether `location` is a URL, with its host: never let a request choose it.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: the location leads to another host without `absolute`, is malformed, or
                the status is not that of a redirect.
        """
        return _response.redirect(location, status, headers, absolute=absolute)

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
