"""Static files: one directory below one path.

Rules:

- Nothing outside the directory is ever served: a path with an empty, `.` or `..`
  segment, a NUL, a backslash or a drive has no file; and what is left is resolved,
  symbolic links included, and has to lie inside.
- What starts with a dot (`.git`, `.env`) is not served, save `.well-known` (RFC 8615).
- Only regular files: opening a pipe or a device could block for ever.
- A directory is its index.html; there are no listings.
- What may not be served looks like what is not there: 404.
- What a browser has is not sent again: each file has an ETag and a Last-Modified, and browsers ask
  each time whether it has changed (Cache-Control: no-cache), unless the directory has another
  Cache-Control. A part of a file is sent for the asking (`ranges`).
- A compressed form that stands beside a file (`app.js.br`, `.zst`, `.gz`) goes out in its place to
  whoever takes it (`codings`); one that is older than its file was left behind, and does not. Each
  has an ETag of its own.
- A single-page application has a page for every path: `fallback` is sent where a browser goes to a
  page (its Accept names text/html), and not where a page asks for a script that is missing.
- A redirect names the last segment alone (`./sub/`), so that it leads to no other host, and
  to the right place behind a proxy that has taken a prefix off the path. It is a temporary one:
  browsers keep a permanent one for good, and the folder may be gone tomorrow.
"""

from __future__ import annotations

import errno
import mimetypes
import os
import re
import stat
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import quote

from .._handshakes.head import Refused
from .._network.waiting import engine
from .codings import CODINGS, accepted
from .conditions import Validators, allows_range, is_unchanged
from .dates import http_date
from .ranges import wanted_range
from .response import Response

if TYPE_CHECKING:
    from .._handshakes.head import Request
    from .response import Headers

__all__ = ["StaticFiles"]

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
# On Windows "a:b" is a stream or a drive, and "a." and "a " are other names of "a".
_FORBIDDEN_WINDOWS = re.compile(r":|[. ]$")
_WINDOWS = os.name == "nt"
_AS_IT_IS = "%!$&'()*+,;=:@~"  # what else a segment may have (RFC 3986 section 3.3)
# O_NONBLOCK: that opening a pipe, put where the file just was, does not block.
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
)
# What each file has its own of.
_OWN: Final = frozenset(
    {
        "accept-ranges",
        "content-encoding",
        "content-range",
        "content-type",
        "etag",
        "last-modified",
    }
)
_MORE_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".md": "text/markdown",
    ".map": "application/json",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}


class StaticFiles:
    """A page handler that answers with the files of a directory.

    Attributes:
        directory: The directory, without symbolic links.
    """

    def __init__(
        self,
        prefix: str,
        directory: str | os.PathLike[str],
        headers: Headers = None,
        fallback: str | None = None,
    ) -> None:
        """Serve `directory` below the path `prefix`.

        Args:
            prefix: The path, such as `/assets`, or `/`.
            directory: The directory; has to exist. A relative one is looked up
                from the current directory, now.
            headers: More headers for each file.
            fallback: The file in it that is the page of all paths without a file.

        Raises:
            TypeError: the directory is not a path, or a header is of the wrong type.
            ValueError: it is not a directory, a header cannot be sent, or there is no fallback.
        """
        if not os.fspath(directory):
            raise ValueError("the directory is empty: write '.' to serve the current one")
        self._prefix = prefix.rstrip("/") + "/"
        self.directory = os.path.realpath(os.fsdecode(os.fspath(directory)))
        self._headers = Response(200, headers=headers).headers  # checked now
        for name, _ in self._headers:
            if name.lower() in _OWN:
                raise ValueError(f"{name} cannot be the same for all files: leave it out")
        self._named = frozenset(name.lower() for name, _ in self._headers)
        if not Path(self.directory).is_dir():
            raise ValueError(f"{os.fspath(directory)!r} is not a directory")
        # A fresh table holds Python's own types alone, not the system's: a file
        # has the same type on every machine.
        self._types = {**mimetypes.MimeTypes().types_map[True], **_MORE_TYPES}
        self._fallback = None if fallback is None else self._checked_fallback(fallback)

    def _checked_fallback(self, fallback: object) -> str:
        if not isinstance(fallback, str):
            raise TypeError(f"fallback has to be a str, not {type(fallback).__name__}")
        try:
            if os.path.isfile(self._resolve(fallback)):  # noqa: PTH113 - as below
                return fallback
        except Refused:
            pass
        raise ValueError(
            f"there is no file {fallback!r} to fall back to in {self.directory!r}: name one "
            "that is served, such as 'index.html'"
        )

    def __call__(self, request: Request) -> Response:
        """Answer a request for a path below the prefix.

        Raises:
            Refused: 404 for what is not there or not to be served, 503 where no
                descriptor is left; 412 and 416 for conditions and ranges.
        """
        return engine().blocking(lambda: self._answer(request))

    def _answer(self, request: Request) -> Response:
        try:
            found = self._find(request)
        except Refused as refused:
            if self._fallback is None or refused.status != 404 or not _navigates(request):
                raise
            return self._send(request, self._resolve(self._fallback), vary="Accept")
        return found if isinstance(found, Response) else self._send(request, found)

    def _find(self, request: Request) -> str | Response:
        """The file that is asked for, or where to find it."""
        path = request.path
        if "//" in path:
            raise _not_found()
        if path + "/" == self._prefix:
            return _redirect(request)
        real = self._resolve(path[len(self._prefix) :].rstrip("/"))
        if os.path.isdir(real):  # noqa: PTH112  # Path.is_dir raises for a name too long
            if not path.endswith("/"):
                return _redirect(request)
            real = self._inside(os.path.join(real, "index.html"))  # noqa: PTH118
        elif path.endswith("/"):
            raise _not_found()
        if not os.path.isfile(real):  # noqa: PTH113 - as above
            raise _not_found()
        return real

    def _send(self, request: Request, real: str, vary: str = "") -> Response:
        """A file as an answer, its compressed form where that is there and taken."""
        file, coding = _open(real), ""
        try:
            forms = self._forms(real, os.fstat(file.fileno()))
            varies = ", ".join(filter(None, (vary, "Accept-Encoding" if forms else "")))
            for name in accepted(request.headers.get("accept-encoding")) if forms else ():
                if name not in forms:
                    continue
                try:
                    compressed = _open(forms[name])
                except Refused:
                    continue  # it is gone by now, or may not be read: the file itself is there
                file.close()
                file, coding = compressed, name
                break
            return self._represent(request, file, self._type(real), coding, varies)
        except BaseException:
            file.close()
            raise

    def _forms(self, real: str, info: os.stat_result) -> dict[str, str]:
        """The compressed forms of a file, by their codings: files beside it, none older than it."""
        forms = {}
        for coding, suffix in CODINGS.items():
            try:
                found = os.stat(real + suffix)  # noqa: PTH116  # mostly there is none
                path = self._inside(real + suffix)
            except (OSError, Refused):
                continue
            # In seconds: some programs that compress leave out what is smaller.
            if stat.S_ISREG(found.st_mode) and int(found.st_mtime) >= int(info.st_mtime):
                forms[coding] = path
        return forms

    def _represent(
        self, request: Request, file: BinaryIO, kind: str, coding: str, vary: str
    ) -> Response:
        """An open file as an answer: all of it, a part, or that the client has it."""
        info = os.fstat(file.fileno())
        validators = Validators.of(info, time(), coding)
        headers = self._with_own(
            [
                ("ETag", validators.etag),
                ("Last-Modified", http_date(validators.modified)),
                ("Accept-Ranges", "bytes"),
                *([("Content-Encoding", coding)] if coding else []),
            ],
            vary,
        )
        if is_unchanged(request.headers, validators):
            file.close()
            return Response(304, content_type="", headers=headers)
        status, length = 200, info.st_size
        wanted = request.headers.get("range") if request.method == "GET" else None
        if wanted is not None and allows_range(request.headers, validators):
            part = wanted_range(wanted, length)
            if part is not None:
                status, (start, length) = 206, part
                headers.append(
                    ("Content-Range", f"bytes {start}-{start + length - 1}/{info.st_size}")
                )
                file.seek(start)
        return Response(status, content_type=kind, headers=headers, file=file, length=length)

    def _with_own(self, headers: list[tuple[str, str]], vary: str) -> list[tuple[str, str]]:
        """A file's headers, and those that its directory was given; these go first."""
        if "cache-control" not in self._named:
            headers.append(("Cache-Control", "no-cache"))
        for name, value in self._headers:
            if name.lower() == "vary" and vary:
                value, vary = f"{value}, {vary}", ""  # noqa: PLW2901
            headers.append((name, value))
        return [*headers, ("Vary", vary)] if vary else headers

    def serves(self, path: str | os.PathLike[str]) -> bool:
        """Whether a file is among those that are served, whatever their path is."""
        real = os.path.realpath(path)
        try:
            relative = os.path.relpath(real, self.directory)
            self._resolve(relative.replace(os.sep, "/"))
        except (Refused, ValueError):  # ValueError: on another drive
            return False
        return True

    def _resolve(self, relative: str) -> str:
        segments = relative.split("/") if relative else []
        for segment in segments:
            if not _allowed(segment):
                raise _not_found()
        return self._inside(os.path.join(self.directory, *segments))  # noqa: PTH118

    def _inside(self, path: str) -> str:
        """The path without symbolic links; it has to lie inside the directory."""
        try:
            real = os.path.realpath(path)
            inside = os.path.commonpath([self.directory, real])
        except (OSError, ValueError) as error:
            raise _not_found() from error
        if os.path.normcase(inside) != os.path.normcase(self.directory):
            raise _not_found()
        return real

    def _type(self, path: str) -> str:
        kind = self._types.get(Path(path).suffix.lower(), "application/octet-stream")
        if kind.startswith("text/") or kind in ("application/json", "image/svg+xml"):
            return f"{kind}; charset=utf-8"
        return kind


def _allowed(segment: str) -> bool:
    if not segment or _FORBIDDEN.search(segment):
        return False
    if segment.startswith(".") and segment != ".well-known":
        return False
    return not (_WINDOWS and _FORBIDDEN_WINDOWS.search(segment))


def _not_found() -> Refused:
    return Refused(404, "there is nothing at this path")


def _navigates(request: Request) -> bool:
    """Whether a browser goes to a page: what a page asks for by itself names other types."""
    return "text/html" in request.headers.get("accept", "").lower()


def _redirect(request: Request) -> Response:
    """Send the client to the same path with a slash, which relative links need."""
    path, mark, query = request.target.partition("?")
    # The "./" because "a:b/" alone would be a URL. What is encoded stays so.
    location = f"./{quote(path.rpartition('/')[2], safe=_AS_IT_IS)}/"
    return Response(307, content_type="", headers=(("Location", f"{location}{mark}{query}"),))


def _open(path: str) -> BinaryIO:
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise Refused(503, "the server is out of descriptors: try again later") from error
        raise _not_found() from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_found()
    return os.fdopen(descriptor, "rb", buffering=0)
