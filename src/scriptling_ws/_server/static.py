"""Static files: one directory below one path.

Rules:

- Nothing outside the directory is ever served: a path with an empty, `.` or `..`
  segment, a NUL, a backslash or a drive has no file; and what is left is resolved,
  symbolic links included, and has to lie inside.
- What starts with a dot (`.git`, `.env`) is not served, save `.well-known` (RFC 8615).
- Only regular files: opening a pipe or a device could block for ever.
- A directory is its index.html; there are no listings.
- What may not be served looks like what is not there: 404.
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
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from .._handshakes.head import Refused
from .._network.waiting import engine
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
_MORE_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".md": "text/markdown",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}


class StaticFiles:
    """A page handler that answers with the files of a directory.

    Attributes:
        directory: The directory, without symbolic links.
    """

    def __init__(
        self, prefix: str, directory: str | os.PathLike[str], headers: Headers = None
    ) -> None:
        """Serve `directory` below the path `prefix`.

        Args:
            prefix: The path, such as `/assets`, or `/`.
            directory: The directory; has to exist. A relative one is looked up
                from the current directory, now.
            headers: More headers for each file.

        Raises:
            TypeError: the directory is not a path, or a header is of the wrong type.
            ValueError: it is not a directory, or a header cannot be sent.
        """
        if not os.fspath(directory):
            raise ValueError("the directory is empty: write '.' to serve the current one")
        self._prefix = prefix.rstrip("/") + "/"
        self.directory = os.path.realpath(os.fsdecode(os.fspath(directory)))
        self._headers = Response(200, headers=headers).headers  # checked now
        if any(name.lower() == "content-type" for name, _ in self._headers):
            raise ValueError("Content-Type is not one for all files: each has the type of its name")
        if not Path(self.directory).is_dir():
            raise ValueError(f"{os.fspath(directory)!r} is not a directory")
        # A fresh table holds Python's own types alone, not the system's: a file
        # has the same type on every machine.
        self._types = {**mimetypes.MimeTypes().types_map[True], **_MORE_TYPES}

    def __call__(self, request: Request) -> Response:
        """Answer a request for a path below the prefix.

        Raises:
            Refused: 404 for what is not there or not to be served, 503 where no
                descriptor is left.
        """
        return engine().blocking(lambda: self._answer(request))

    def _answer(self, request: Request) -> Response:
        path = request.path
        if path + "/" == self._prefix:
            return _redirect(request)
        real = self._resolve(path[len(self._prefix) :].rstrip("/"))
        if os.path.isdir(real):  # noqa: PTH112  # Path.is_dir raises for a name too long
            if not path.endswith("/"):
                return _redirect(request)
            real = self._inside(os.path.join(real, "index.html"))  # noqa: PTH118
        elif path.endswith("/"):
            raise _not_found()
        file = _open(real)
        return Response(
            200,
            content_type=self._type(real),
            headers=self._headers,
            file=file,
            length=os.fstat(file.fileno()).st_size,
        )

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
