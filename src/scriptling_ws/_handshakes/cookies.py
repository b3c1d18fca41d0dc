"""Cookies that a response sets: checked as they are made, safe unless their maker says otherwise.

Rules (RFC 6265bis, "Server Requirements"):

- A script in the page cannot read one (HttpOnly), and pages of other sites send it with links
  alone (SameSite=Lax), unless it is said otherwise.
- It is Secure where its client came by TLS: that is known as it is sent. On http://localhost, where
  a program is tried, it is not, as some browsers would refuse it there.
- It is sent to this server's paths alone, where that is below a prefix.
- What a browser would refuse silently is an error here: a name or value with characters that
  cookies have not, one above 4,096 bytes, SameSite=None without Secure, a prefix (`__Host-`,
  `__Secure-`) whose promise is not kept.
- It has a Max-Age or ends with the browser: Expires says the same by a clock that is another's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, cast

from .._fields import TOKEN
from .._options import check_count

__all__ = ["Cookie", "SameSite", "make_cookie"]

SameSite = Literal["Lax", "Strict", "None"]
"""Which requests of other sites have a cookie: links, none, or all."""

_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
_PATH = re.compile(r"/[\x20-\x3a\x3c-\x7e]*")
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_LONGEST: Final = 4096  # bytes of name and value together
_LONGEST_ATTRIBUTE: Final = 1024
_Text = TypeVar("_Text", bound=str)


@dataclass(frozen=True, repr=False)
class Cookie:
    """One cookie, checked. Its `repr` does not show its value."""

    name: str
    value: str
    max_age: int | None
    path: str | None
    domain: str | None
    http_only: bool
    same_site: SameSite
    secure: bool | None

    def __repr__(self) -> str:
        return f"Cookie({self.name!r}, ...)"

    def text(self, root_path: str, *, secure: bool) -> str:
        """What Set-Cookie says.

        Args:
            root_path: What stands before this server's paths where the client sees them.
            secure: Whether the client came by TLS.
        """
        parts = [f"{self.name}={self.value}", f"Path={self.path or root_path or '/'}"]
        if self.max_age is not None:
            parts.append(f"Max-Age={self.max_age}")
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        if self.secure or (self.secure is None and secure):
            parts.append("Secure")
        if self.http_only:
            parts.append("HttpOnly")
        parts.append(f"SameSite={self.same_site}")
        return "; ".join(parts)


def make_cookie(
    name: str,
    value: str,
    *,
    max_age: int | None = None,
    path: str | None = None,
    domain: str | None = None,
    http_only: bool = True,
    same_site: SameSite = "Lax",
    secure: bool | None = None,
) -> Cookie:
    """Make a cookie; `Response.with_cookie` describes the arguments and errors."""
    _check_text(name, value)
    if max_age is not None:
        check_count("max_age", max_age, ", or None until the browser ends", least=0)
    _check_place("path", path, _PATH, "a path such as '/app'")
    _check_place("domain", domain, _DOMAIN, "a host name such as 'example.com'")
    for option, given in (("http_only", http_only), ("secure", secure)):
        if not isinstance(given, bool) and not (option == "secure" and given is None):
            raise TypeError(f"{option} has to be True or False, not {given!r}")
    if same_site not in ("Lax", "Strict", "None"):
        raise ValueError(f"same_site has to be 'Lax', 'Strict' or 'None', not {same_site!r}")
    if same_site == "None" and not secure:
        raise ValueError("browsers refuse SameSite=None without Secure: pass secure=True too")
    secure, path = _kept_promise(name, path, domain, secure)
    return Cookie(
        _plain(name),
        _plain(value),
        None if max_age is None else int(max_age),
        None if path is None else _plain(path),
        None if domain is None else _plain(domain),
        http_only,
        _plain(same_site),
        secure,
    )


def _plain(text: _Text) -> _Text:
    """A str without a class of its own: what that says as it is formatted was never checked."""
    return cast("_Text", str.__str__(text))


def _check_text(name: object, value: object) -> None:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(
            f"a cookie's name and value have to be str, not {type(name).__name__} and "
            f"{type(value).__name__}"
        )
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not a cookie name: use letters, digits, '-' and '_'")
    if not _VALUE.fullmatch(value):
        raise ValueError(
            f"the value of the cookie {name!r} has a character that no cookie may have (a blank, "
            "a comma, a semicolon, a quote, a backslash, or one outside ASCII): encode it, such "
            "as by urllib.parse.quote, and decode what comes back"
        )
    if len(name) + len(value) > _LONGEST:
        raise ValueError(
            f"the cookie {name!r} has more than {_LONGEST} bytes, which browsers refuse: keep "
            "what is long on the server, and send a token"
        )


def _check_place(option: str, text: object, pattern: re.Pattern[str], what: str) -> None:
    if text is None:
        return
    if not isinstance(text, str):
        raise TypeError(f"a cookie's {option} has to be a str, not {type(text).__name__}")
    if len(text) > _LONGEST_ATTRIBUTE or not pattern.fullmatch(text):
        raise ValueError(f"a cookie's {option} has to be {what}, not {text!r}")


def _kept_promise(
    name: str, path: str | None, domain: str | None, secure: bool | None
) -> tuple[bool | None, str | None]:
    """What the prefix of a cookie's name asks for: that it is Secure, and of this host alone."""
    lower = name.lower()
    if not lower.startswith(("__secure-", "__host-")):
        return secure, path
    if secure is False:
        raise ValueError(f"browsers refuse the cookie {name!r} without Secure: leave secure out")
    if lower.startswith("__host-"):
        if domain is not None or path not in (None, "/"):
            raise ValueError(
                f"browsers refuse the cookie {name!r} with a domain, or a path other than '/'"
            )
        path = "/"
    return True, path
