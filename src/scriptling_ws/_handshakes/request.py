"""A request, as those see it who answer it.

Rules:

- What is in it came from a client, unless a trusted proxy has said it; only what is named here as
  decided (`remote_addr`, `secure`, `root_path`, the Host header) was, or was proved by TLS
  (`peer_certificate`).
- Nothing of its body is read before it is asked for (`bodies`).
- Of two cookies by one name the first counts: browsers send the one with the longer path first
  (RFC 6265bis, "Retrieval Algorithm").
- Its `repr` has no secret.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import parse_qsl

from .._fields import shown_headers, shown_target
from .bodies import Form, read_form, read_json
from .credentials import basic_token

__all__ = ["Request", "note", "query_fields", "request_of", "revised"]


@dataclass(frozen=True, repr=False)
class Request:
    """An HTTP request, as a page handler or a connection's `request` shows it.

    Its `repr` has no secret: no query, no body, and of most headers the names alone.

    Attributes:
        method: GET or HEAD, or what else came.
        path: The path, percent-decoded, without the query, and without `root_path`.
        headers: Names in lower case; of a header that came twice, the values joined by ", ",
            or "; " for Cookie. `host` is the target's where that is a whole URL, or what a
            trusted proxy says.
        query: The query's fields; of a field that came twice, the last: `query_list` has all.
            What is not UTF-8 is replaced by U+FFFD; `target` has it as it came.
        body: The body; empty for an upgrade.
        target: Path and query as they came, without `root_path`.
        remote_addr: The client's address, as a connection's: `"192.0.2.1:54321"`.
        secure: Whether it came by TLS: this server's, or that of a trusted proxy which says so.
        params: What the path has in place of the parameters of its route's, by their names.
        state: What the program keeps with the request, such as `state.user`: `authorize` sets it, a
            handler finds it, a WebSocket's as `client.state`.
        root_path: What stands before the path where the client sees it, such as "/app"; mostly
            empty. Redirects and cookies have it by themselves.
        peer_certificate: What the certificate says that the other end of the TLS connection has
            shown, as `ssl.SSLSocket.getpeercert()` gives it; None without one, or where the
            server's `ssl_context` checks none. Behind a proxy it is the proxy's.
    """

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    target: str = ""
    remote_addr: str = ""
    secure: bool = False
    params: dict[str, str] = field(default_factory=dict)
    state: SimpleNamespace = field(default_factory=SimpleNamespace, compare=False)
    root_path: str = ""
    peer_certificate: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return (
            f"Request(method={self.method!r}, path={self.path!r}, "
            f"headers={shown_headers(self.headers.items())}, query=<{len(self.query)} fields>, "
            f"body=<{len(self.body)} bytes>, target={shown_target(self.target)})"
        )

    @property
    def base_url(self) -> str:
        """Where the client sees the server: `https://example.com/app`, without a slash at the end.

        Its host is what the client says it is: put it into no mail and no cache unless
        `allowed_hosts` names those that are yours. "" and `root_path` alone without a Host.
        """
        host = self.headers.get("host", "")
        scheme = "https" if self.secure else "http"
        return f"{scheme}://{host}{self.root_path}" if host else self.root_path

    @property
    def url(self) -> str:
        """What the client has asked for: `base_url` and the target."""
        return self.base_url + self.target

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by their names; of two by one name, the first."""
        found: dict[str, str] = {}
        for pair in self.headers.get("cookie", "").split(";"):
            name, mark, value = pair.partition("=")
            if mark and (name := name.strip(" \t")):
                value = value.strip(" \t")
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                found.setdefault(name, value[1:-1] if quoted else value)
        return found

    def json(self) -> Any:
        """The value of a body of JSON.

        Its Content-Type has to be `application/json` (or end in `+json`): no page of another
        site can send that without being asked for its origin first.

        Raises:
            ValueError: it is none, or malformed. Where a page handler lets it through, the
                client gets 415 or 400, with the reason.
        """
        return read_json(self.headers.get("content-type", ""), self.body)

    def form(self) -> Form:
        """The fields of a form, as a dict; `form().get_list(name)` has all values of one.

        A browser sends a form so where it has no `enctype`. Forms with files are refused.

        Raises:
            ValueError: the body is no form, or has too many fields. Where a page handler lets
                it through, the client gets 415 or 400, with the reason.
        """
        return read_form(self.headers.get("content-type", ""), self.body)

    def query_list(self, name: str) -> list[str]:
        """All values of a field of the query, in their order; empty if it is not there."""
        query = self.target.partition("?")[2]
        return [value for field_name, value in query_fields(query) if field_name == name]

    def has_credentials(self, user: str, password: str) -> bool:
        """Whether the request comes with these, by Basic authorization (RFC 7617).

        The comparison takes the same time wherever they differ, so that nothing can be
        learned from it. Over ws:// and http:// they are sent in the clear.

        Args:
            user: The user's name; it may be empty, as it is where a token is the password.
            password: The password.

        Raises:
            TypeError: one of them is no str, such as the None of a variable that is not set.
            ValueError: the password is empty, which would let anybody in; or the user has a
                colon, or one of them a lone surrogate, which cannot be sent.
        """
        for name, value in (("user", user), ("password", password)):
            if not isinstance(value, str):
                raise TypeError(f"the {name} has to be a str, not {type(value).__name__}")
        if not password:
            raise ValueError("the password is empty, which would let anybody in: set one")
        if ":" in user:
            raise ValueError("a user name with a colon cannot be sent by Basic authorization")
        try:
            wanted = ":".join((user, password)).encode()
        except UnicodeEncodeError:
            raise ValueError("the user or password has a lone surrogate: it is no text") from None
        given = basic_token(self.headers.get("authorization", ""))
        return given is not None and hmac.compare_digest(given, wanted)


_USUAL: Final = {
    "body": b"",
    "remote_addr": "",
    "secure": False,
    "root_path": "",
    "peer_certificate": None,
}


def query_fields(query: str) -> list[tuple[str, str]]:
    """The fields of a query, in their order."""
    return parse_qsl(query, keep_blank_values=True, errors="replace")


def revised(request: Request, **facts: Any) -> Request:
    """The same request with other facts: as `dataclasses.replace`, which is code for each field.

    Requests with a body come here.
    """
    other = object.__new__(Request)
    vars(other).update(vars(request), **facts)
    return other


def request_of(**facts: Any) -> Request:
    """A request with these facts, as `Request` makes one of them all: for what has come.

    Every connection comes here: a frozen class stores each of its fields by a call.
    """
    made = object.__new__(Request)
    vars(made).update(_USUAL, params={}, state=SimpleNamespace(), **facts)
    return made


def note(request: Request, **facts: Any) -> None:
    """Have other facts in a request that nobody but its maker has seen so far."""
    vars(request).update(facts)
