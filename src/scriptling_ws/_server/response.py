"""What page handlers return: responses, checked as they are made.

Rules (RFC 9110):

- Every field of a response is checked when it is made, and goes out as it was checked: nothing
  can be smuggled into a response, and what is wrong with one fails in the handler, as a 500.
- A str is plain text, never HTML, so that echoing a request's field cannot become a script.
- A redirect leads to a path of this server, unless its caller says otherwise.
- A refusal says, in plain text, what the peer may do about it.
"""

from __future__ import annotations

import io
import json as _json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import quote

from .._fields import check_header, shown_headers
from .._handshakes.cookies import Cookie, make_cookie
from .._options import check_count

if TYPE_CHECKING:
    from .._handshakes.cookies import SameSite
    from .._handshakes.head import Refused

__all__ = [
    "BODYLESS",
    "Headers",
    "Response",
    "html",
    "json",
    "phrase",
    "redirect",
    "refusal",
    "text",
    "to_response",
]

Headers = Mapping[str, str] | Iterable[tuple[str, str]] | None
"""More headers of a response: a dict, or pairs where one comes several times."""

_OURS: Final = {"connection", "content-length", "keep-alive", "transfer-encoding"}

BODYLESS: Final = (204, 304)
"""The statuses without a body, and without a Content-Length too."""

_EMPTY: Final = (*BODYLESS, 205)
# What there is once in a response: of two, some take the first, some the last.
_SINGLE: Final = frozenset(
    {"content-range", "content-type", "date", "etag", "last-modified", "location", "retry-after"}
)
_TEXT: Final = "text/plain; charset=utf-8"
_BYTES: Final = "application/octet-stream"
_HEADERS: Final = "headers has to be a dict, such as {'Cache-Control': 'no-store'}, or pairs"
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_NO_LOCATION = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")
_ABSOLUTE = re.compile(r"https?://[^/?#]", re.IGNORECASE)
# A path, a query, or a relative path, whose first segment has no colon (RFC 3986 section 4.2).
_RELATIVE = re.compile(r"/(?!/)|[?#]|[^/:?#]+(?:[/?#]|$)")
_AS_IT_IS: Final = "%!#$&'()*+,/:;=?@[]~"  # what else a URL may have (RFC 3986 section 2.2)


@dataclass(frozen=True, init=False, repr=False)
class Response:
    """An answer to an HTTP request.

    Every field is checked when a response is made, by `dataclasses.replace` too. Its `repr`
    has no secret: no body, and of most headers the names alone.

    Attributes:
        status: The status, 200 to 599.
        body: The body.
        content_type: The body's type, "" for none.
        headers: More headers, as pairs.
        file: A file to send in place of `body`, from where it stands; closed afterwards.
        length: How many bytes of the file to send.
        cookies: The cookies that it sets, see `with_cookie`.
    """

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...]
    file: BinaryIO | None
    length: int
    cookies: tuple[Cookie, ...]

    def __init__(
        self,
        status: int,
        body: bytes | str = b"",
        content_type: str | None = None,
        headers: Headers = None,
        file: BinaryIO | None = None,
        length: int | None = None,
        cookies: Iterable[Cookie] = (),
    ) -> None:
        """Check every field.

        Args:
            status: The status, 200 to 599.
            body: The body; a str goes out as UTF-8.
            content_type: The body's type, "" for none. By default it is plain text for a str,
                and `application/octet-stream` for bytes.
            headers: More headers, as a dict, or as pairs where one comes several times.
            file: A file, open for reading bytes, to send in place of a body from where it
                stands; it is closed afterwards.
            length: How many bytes of the file to send. By default all that it has now, which a
                file that cannot seek does not tell.
            cookies: What `with_cookie` has made for another response.

        Raises:
            TypeError: one of them is of the wrong type.
            ValueError: one of them cannot be sent, or they exclude each other.
        """
        if content_type is None:
            content_type = _TEXT if isinstance(body, str) else _BYTES
        fields = {
            "status": _checked_status(status),
            "body": _checked_body(body),
            "content_type": check_header("Content-Type", content_type, (), "the server")[1],
            "headers": _checked_headers(headers),
            "file": file,
            "length": _checked_length(file, length),
            "cookies": _checked_cookies(cookies),
        }
        if body and file is not None:
            raise ValueError("a response has a body or a file, not both")
        if fields["status"] in _EMPTY and (body or file is not None):
            raise ValueError(f"a response with status {status} has no body")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def with_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        path: str | None = None,
        domain: str | None = None,
        http_only: bool = True,
        same_site: SameSite = "Lax",
        secure: bool | None = None,
    ) -> Response:
        """The same response, which also sets a cookie (RFC 6265bis).

            return http.redirect("/").with_cookie("session", token, max_age=86_400)

        Args:
            name: Its name; one that begins with `__Host-` is of this host and of TLS alone.
            value: Its value, in ASCII without blanks, commas, semicolons, quotes and backslashes.
            max_age: The seconds that it lasts; None until the browser ends.
            path: The path below which it is sent; by default all of this server's.
            domain: A domain whose other hosts get it too; by default this host alone.
            http_only: Whether scripts in the page cannot read it.
            same_site: Which requests of other sites have it: "Lax" for links, "Strict" for none,
                "None" for all. WebSockets that other sites open are none of the links.
            secure: Whether it is sent by TLS alone; by default if this response is.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: browsers would refuse it.
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
        return replace(self, cookies=(*self.cookies, cookie))

    def without_cookie(
        self, name: str, *, path: str | None = None, domain: str | None = None
    ) -> Response:
        """The same response, which also has the browser forget a cookie.

        Args:
            name: Its name.
            path: Its path and its domain, as it was set with.
            domain: Likewise.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: there is no such cookie that browsers take.
        """
        return self.with_cookie(name, "", max_age=0, path=path, domain=domain)

    def __repr__(self) -> str:
        what = f"body=<{len(self.body)} bytes>"
        if self.file is not None:
            what = f"file=<{self.length} bytes>"
        return (
            f"Response(status={self.status}, {what}, content_type={self.content_type!r}, "
            f"headers={shown_headers(self.headers)})"
        )


def _checked_status(status: object) -> int:
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(
            f"the status comes first and has to be an int, such as 200, not {type(status).__name__}"
        )
    if not 200 <= status <= 599:
        raise ValueError(f"the status has to be 200 to 599, not {status}")
    return int(status)  # a member of an enum is formatted as its name


def _checked_body(body: object) -> bytes:
    if isinstance(body, str):
        return body.encode("utf-8")
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise TypeError(f"the body has to be bytes or a str, not {type(body).__name__}")
    return bytes(body)


def _checked_headers(headers: Headers) -> tuple[tuple[str, str], ...]:
    given: object = () if headers is None else headers
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(_HEADERS)
    pairs = []
    for pair in given.items() if hasattr(given, "items") else given:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(_HEADERS)
        name, value = pair
        pairs.append(check_header(name, value, _OURS, "the server"))
    names = [name.lower() for name, _ in pairs]
    for name in _SINGLE.intersection(names):
        if names.count(name) > 1:
            raise ValueError(f"the header {name!r} is there twice: a response has one")
    return tuple(pairs)


def _checked_cookies(cookies: object) -> tuple[Cookie, ...]:
    given = tuple(cookies) if isinstance(cookies, Iterable) else (cookies,)
    if not all(isinstance(cookie, Cookie) for cookie in given):
        raise TypeError("cookies are made by with_cookie(name, value)")
    return given


def _checked_length(file: BinaryIO | None, length: int | None) -> int:
    if length is not None:
        check_count("length", length, least=0)
    if file is None:
        return 0
    if not hasattr(file, "read") or not hasattr(file, "close") or file.read(0) != b"":
        raise TypeError("file has to be open for reading bytes, as open(path, 'rb') is")
    if length is not None:
        return int(length)
    try:
        here = file.tell()
        end = file.seek(0, io.SEEK_END)
        file.seek(here)
    except (AttributeError, OSError) as error:
        raise ValueError("the file does not tell its length: give length=...") from error
    return max(0, end - here)


def html(status: int, body: str, headers: Headers = None) -> Response:
    """What `runtime.http.html` returns; the arguments and errors are documented there."""
    return Response(status, _encode(body), "text/html; charset=utf-8", headers)


def text(status: int, body: str, headers: Headers = None) -> Response:
    """What `runtime.http.text` returns; the arguments and errors are documented there."""
    return Response(status, _encode(body), _TEXT, headers)


def json(status: int, value: Any, headers: Headers = None) -> Response:
    """What `runtime.http.json` returns; the arguments and errors are documented there."""
    body = _json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(status, _encode(body), "application/json", headers)


def redirect(
    location: str, status: int = 303, headers: Headers = None, *, absolute: bool = False
) -> Response:
    """What `runtime.http.redirect` returns; the arguments and errors are documented there."""
    if not isinstance(location, str):
        raise TypeError(f"the location has to be a str, not {type(location).__name__}")
    if status not in _REDIRECTS:
        raise ValueError(f"the status of a redirect has to be one of {_REDIRECTS}, not {status!r}")
    if not location or _NO_LOCATION.search(location):
        raise ValueError("the location is empty, or has a backslash, blank or control character")
    if absolute and not _ABSOLUTE.match(location):
        raise ValueError("an absolute location has to be a URL of http or https")
    if not absolute and not _RELATIVE.match(location):
        raise ValueError(
            "the location has to be a path of this server, such as '/done' or './done': to lead "
            "to another host, pass absolute=True, never with what a request asks for"
        )
    target = quote(location, safe=_AS_IT_IS)
    more = _checked_headers(headers)
    return Response(status, content_type="", headers=(("Location", target), *more))


def _encode(body: object) -> bytes:
    if not isinstance(body, str):
        raise TypeError(f"the body has to be a str, not {type(body).__name__}")
    return body.encode("utf-8")


def to_response(result: object) -> Response:
    """What a page handler returned, as a response.

    Args:
        result: A Response; or a str (plain text), a dict or list (JSON) or bytes,
            which go out with status 200.

    Raises:
        TypeError: it is something else.
        ValueError: it cannot be encoded.
    """
    if isinstance(result, Response):
        return result
    if isinstance(result, str):
        return text(200, result)
    if isinstance(result, (dict, list)):
        return json(200, result)
    if isinstance(result, (bytes, bytearray, memoryview)):
        return Response(200, bytes(result))
    raise TypeError(
        f"a page handler returned {type(result).__name__}: it has to return "
        "runtime.http.html(...), .json(...) or .text(...), or a str, dict, list or bytes"
    )


def refusal(refused: Refused) -> Response:
    """The response to a request that is refused."""
    headers = [(name, value) for name, value in refused.headers if name.lower() not in _OURS]
    body = f"{refused.status} {phrase(refused.status)}: {refused.text}\n"
    return Response(
        refused.status,
        body.encode("utf-8", "replace"),
        "text/plain; charset=utf-8",
        tuple(headers),
    )


def phrase(status: int) -> str:
    """A status in words, as far as there are any."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
