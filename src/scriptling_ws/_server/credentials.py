"""`basic_auth` and `bearer_auth`: functions for `authorize=` that know names, passwords and tokens.

Rules (RFC 7617, RFC 6750, RFC 9110 section 11):

- Who sends nothing, or what is wrong, gets 401 with the challenge, in the same words.
- Passwords and tokens are compared by keyed digests of one length, in constant time: how long it
  takes tells neither where a guess is wrong, nor how long the secret is, nor whether there is such
  a user. What a `check` of the program's does is its own; `hmac.compare_digest` is for that.
- No secret is kept as it is, nor shown by a `repr`.
- An empty password or token would let anybody in, and is refused where it is configured.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._functions import check_runs, comes_later
from .._handshakes.credentials import basic_token, bearer_token
from .response import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._handshakes.head import Request

    Authorize = Callable[[Request], Response | None]

__all__ = ["basic_auth", "bearer_auth"]

_REALM = re.compile(r"[ !#-\[\]-~]*")  # what a quoted string has without escapes


def basic_auth(
    check: Mapping[str, str] | str | Callable[[str, str], object], *, realm: str = "scriptling-ws"
) -> Authorize:
    """Make a function for `authorize=` that asks for a user's name and password.

    They are sent by Basic authorization (RFC 7617), in the clear but for TLS. A browser asks its
    user on a page; for a WebSocket it sends what the user has given to a page of the same host.

    Args:
        check: The passwords by user's name, as a dict; one of both as "user:password"; or a
            function of name and password, which may block. It returns something false for a
            refusal, True, or whatever is to be `client.user`.
        realm: What the credentials are for, as browsers show it.

    Returns:
        The function. Whom it lets in is `request.state.user`: the name, or what `check` returns.
        It may be called from any thread.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a password is empty, a name has a colon, or the realm cannot be sent.
    """
    challenge = f'Basic realm="{_checked_realm(realm)}", charset="UTF-8"'
    if isinstance(check, str):
        name, mark, password = check.partition(":")
        if not mark:
            raise ValueError("check has to be 'user:password', a dict of these, or a function")
        check = {name: password}
    if isinstance(check, Mapping):
        known = _passwords(check)
    elif callable(check):
        check_runs(check, "check")
        known = check
    else:
        raise TypeError(
            f"check has to be a dict, 'user:password' or a function, not {type(check).__name__}"
        )

    def authorize(request: Request) -> Response | None:
        given = basic_token(request.headers.get("authorization", ""))
        pair = None if given is None else _pair(given)
        if pair is None:
            return _refused(challenge)
        user = _said(known(*pair))
        if not user:
            return _refused(challenge)
        request.state.user = pair[0] if user is True else user
        return None

    return authorize


def bearer_auth(
    check: Mapping[str, Any] | str | Callable[[str], object],
    *,
    query: str | None = None,
    realm: str = "scriptling-ws",
) -> Authorize:
    """Make a function for `authorize=` that asks for a token.

    It is sent by Bearer authorization (RFC 6750), in the clear but for TLS.

    Args:
        check: What is to be `client.user`, by token, as a dict; the one token as a str; or a
            function of the token, which may block. It returns something false for a refusal,
            True, or whatever is to be `client.user`.
        query: The name of a field of the query that may have the token too, such as
            "access_token": scripts of a browser cannot send a header with a WebSocket. It is in no
            log of this package, but perhaps in a proxy's.
        realm: What the token is for.

    Returns:
        The function. Whom it lets in is `request.state.user`, if anything is known but that.
        It may be called from any thread.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a token is empty, or the realm cannot be sent.
    """
    challenge = f'Bearer realm="{_checked_realm(realm)}"'
    if query is not None and not isinstance(query, str):
        raise TypeError(f"query has to be a str or None, not {type(query).__name__}")
    if isinstance(check, str):
        known = _tokens({check: True}, by_header=query is None)
    elif isinstance(check, Mapping):
        known = _tokens(check, by_header=query is None)
    elif callable(check):
        check_runs(check, "check")
        known = check
    else:
        raise TypeError(
            f"check has to be a dict, a token or a function, not {type(check).__name__}"
        )

    def authorize(request: Request) -> Response | None:
        header = request.headers.get("authorization", "")
        token = bearer_token(header)
        # A browser may send a page's Basic credentials with an upgrade: they are no second token.
        if query is not None and not _is_bearer(header):
            token = request.query.get(query)
        if not token:
            return _refused(challenge)
        user = _said(known(token))
        if not user:
            return _refused(f'{challenge}, error="invalid_token"')
        if user is not True:
            request.state.user = user
        return None

    return authorize


def _said(user: object) -> object:
    """What `check` has returned; an error where that is true, and cannot mean that it lets in."""
    if comes_later(user):
        kind = type(user).__name__
        raise TypeError(f"check returned a {kind}, which is no answer yet: wait for its result")
    if isinstance(user, Response):  # as a function for authorize= refuses
        raise TypeError("check returned a response: it has to return False to refuse")
    return user


def _is_bearer(header: str) -> bool:
    """Whether a header is by Bearer authorization, malformed or not."""
    return header.partition(" ")[0].lower() == "bearer"


def _refused(challenge: str) -> Response:
    headers = {"WWW-Authenticate": challenge, "Cache-Control": "no-store"}
    return Response(401, "401 Unauthorized: send the right credentials\n", headers=headers)


def _pair(given: bytes) -> tuple[str, str] | None:
    """User and password; None if they are no text, or there is no password."""
    try:
        name, mark, password = given.decode("utf-8").partition(":")
    except UnicodeDecodeError:
        return None
    return (name, password) if mark else None


class _Digests:
    """Digests under a key of this process: nobody outside knows what leads to which."""

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def of(self, text: str) -> bytes:
        """The digest of a text, which may hold anything."""
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=32, key=self._key).digest()


def _passwords(users: Mapping[str, str]) -> Callable[[str, str], object]:
    """A check by names and passwords."""
    digests, known = _Digests(), {}
    for name, password in users.items():
        _check_secret("user name", name, empty=True)
        _check_secret("password", password)
        if ":" in name:
            raise ValueError("a user name with a colon cannot be sent by Basic authorization")
        known[digests.of(name)] = digests.of(password)
    if not known:
        raise ValueError("check is empty, which lets nobody in: name a user")
    of_nobody = os.urandom(32)

    def check(name: str, password: str) -> bool:
        wanted = known.get(digests.of(name), of_nobody)
        return hmac.compare_digest(digests.of(password), wanted)

    return check


def _tokens(users: Mapping[str, Any], *, by_header: bool) -> Callable[[str], object]:
    """A check by tokens. What is looked up is a digest: no guess comes nearer to one."""
    digests, known = _Digests(), {}
    for token, user in users.items():
        _check_secret("token", token)
        if by_header and bearer_token(f"Bearer {token}") != token:
            raise ValueError(
                "a token has characters that cannot be sent by Bearer authorization: it may have "
                "letters, digits and -._~+/, and = at its end"
            )
        if not user:
            raise ValueError(f"a token leads to {user!r}, which lets nobody in: leave it out")
        known[digests.of(token)] = user
    if not known:
        raise ValueError("check is empty, which lets nobody in: name a token")

    return lambda token: known.get(digests.of(token))


def _check_secret(what: str, value: object, *, empty: bool = False) -> None:
    if not isinstance(value, str):
        raise TypeError(f"a {what} has to be a str, not {type(value).__name__}")
    if not value and not empty:
        raise ValueError(f"a {what} is empty, which would let anybody in: set one")


def _checked_realm(realm: object) -> str:
    if not isinstance(realm, str):
        raise TypeError(f"the realm has to be a str, not {type(realm).__name__}")
    if not _REALM.fullmatch(realm):
        raise ValueError(
            f"the realm {realm!r} cannot be sent: write it in ASCII, without quotes and backslashes"
        )
    return realm
