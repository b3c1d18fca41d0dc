"""Listening sockets of the Unix family: their files, who may use them, and who removes them.

Rules (unix(7)):

- Who may connect is decided by the file's mode and owner. Both are set before the socket listens:
  until then the system refuses every connection.
- A file that is left of a server that was killed is replaced. It is known by that a
  connection to it is refused: nobody listens. What is no socket, and what somebody listens on, is
  never touched.
- A file is removed at the end if it is still the one that was made here, by the process that has
  made it: another server may have replaced it, and a forked child is not its owner.
- Windows' Unix sockets are not known to Python, so they are an error there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
from pathlib import Path
from typing import Final

from .listen import BACKLOG
from .waiting import engine

__all__ = ["OWN_USER", "UnixFile", "check_mode", "listen_unix"]

OWN_USER: Final = 0o600
"""The mode with which a server's own user alone may connect."""

_MOST: Final = 0o777
_UNIX: Final[int] = getattr(socket, "AF_UNIX", -1)


def check_mode(mode: object) -> int:
    """Check the mode that a caller gives a socket's file.

    Raises:
        TypeError: it is no int.
        ValueError: it is no mode, as 660, which is not 0o660.
    """
    if isinstance(mode, bool) or not isinstance(mode, int):
        raise TypeError(f"unix_mode has to be an int such as 0o660, not {type(mode).__name__}")
    if not 0 <= mode <= _MOST:
        meant = f": did you mean 0o{mode}?" if set(str(mode)) <= set("01234567") else ""
        raise ValueError(f"unix_mode has to be 0 to 0o777, not {mode}{meant}")
    return mode


def _check_path(path: object) -> str:
    """The absolute path of a socket's file: the program may change its directory later."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"unix has to be a path, not {type(path).__name__}")
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ValueError(f"unix has to be a path, such as '/run/app.sock', not {text!r}")
    return str(Path(text).absolute())


def _check_owner(owner: object) -> tuple[int | str | None, int | str | None]:
    """The user and the group of `user:group`, `user` or `:group`: names, or numbers."""
    if owner is None:
        return None, None
    if not isinstance(owner, str):
        raise TypeError(f"unix_owner has to be a str, not {type(owner).__name__}")
    user, colon, group = owner.partition(":")
    if not (user or group) or (colon and not group):
        raise ValueError(f"unix_owner has to be 'user:group', 'user' or ':group', not {owner!r}")
    return _number_or_name(user), _number_or_name(group)


def _number_or_name(text: str) -> int | str | None:
    return int(text) if text.isascii() and text.isdigit() else text or None


class UnixFile:
    """A socket's file, as it was made here."""

    __slots__ = ("_identity", "_process", "path")

    def __init__(self, path: str) -> None:
        """Take note of which file it is, and whose."""
        self.path = path
        self._identity = _identity(path)
        self._process = os.getpid()

    def remove(self) -> None:
        """Remove the file, if it is still this one, and this process has made it.

        May be called again.
        """
        if self._process == os.getpid() and _identity(self.path) == self._identity is not None:
            with contextlib.suppress(OSError):
                Path(self.path).unlink()
        self._identity = None


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a file from another one of its name; None if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def listen_unix(
    path: str | os.PathLike[str], mode: int = OWN_USER, owner: str | None = None
) -> tuple[socket.socket, UnixFile]:
    """Open a listening socket of the Unix family, in non-blocking mode.

    Blocks for the lookup of the owner's names.

    Args:
        path: Its file.
        mode: The file's mode.
        owner: The file's `user:group`, names or numbers, one of them at least; by default the
            system gives it this process's.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument cannot be used, or no user or group is called so.
        OSError: there are no such sockets here, another server listens on it, there is another
            file of its name, or it is not allowed.
    """
    mode, names = check_mode(mode), _check_owner(owner)
    path = _check_path(path)
    if _UNIX < 0:
        text = "this system has no Unix sockets (in Python): use host and port"
        raise OSError(errno.EAFNOSUPPORT, text)
    sock = socket.socket(_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            return sock, _open(sock, path, mode, names)
        except OSError as error:
            text = f"cannot listen on unix:{path}: {error.strerror or error}"
            raise type(error)(error.errno or errno.EINVAL, text) from error
    except BaseException:
        sock.close()
        raise


def _open(
    sock: socket.socket, path: str, mode: int, names: tuple[int | str | None, int | str | None]
) -> UnixFile:
    if _is_stale(path):
        Path(path).unlink()
    sock.bind(path)
    file = UnixFile(path)
    try:
        _give(path, *names)
        Path(path).chmod(mode)
        sock.listen(BACKLOG)
    except BaseException:
        file.remove()
        raise
    return file


def _is_stale(path: str) -> bool:
    """Whether a file of that name is a socket's that nobody listens on.

    Raises:
        OSError: it is something else; or somebody does, or may.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        text = "there is a file of that name that is no socket: remove it, or use another path"
        raise OSError(errno.EADDRINUSE, text)
    with socket.socket(_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a server that is busy does not hold up this one
        refusal = probe.connect_ex(path)
    if refusal not in (errno.ECONNREFUSED, errno.ENOENT):
        text = "another server listens on it: end that, or use another path"
        raise OSError(errno.EADDRINUSE, text)
    # Not gone by now, nor another server's, which has found it stale at the same moment.
    return _identity(path) == (found.st_dev, found.st_ino)


def _give(path: str, user: int | str | None, group: int | str | None) -> None:
    """Give the file to a user and a group."""
    if user is None and group is None:
        return
    try:
        # Names are looked up, perhaps far away. That both may be None its types do not know.
        engine().blocking(lambda: shutil.chown(path, user, group))  # type: ignore[arg-type]
    except (LookupError, OverflowError) as error:
        raise ValueError(f"unix_owner: {error}") from error
