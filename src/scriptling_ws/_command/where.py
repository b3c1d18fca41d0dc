"""Where the command listens: its arguments as options of the server.

Rules:

- A port alone listens on the loopback address: a server that the network can
  reach is spelled out, `0.0.0.0:8080` or `[::]:8080`.
- Several hosts are written with commas, and share the port: `0.0.0.0,[::]:8080`.
- `unix:PATH` is a Unix socket. (Digits behind it are a port, and `unix` then is a host.)
- Descriptors that the command was started with (`--fd`) listen already; so do those of a systemd
  .socket unit, which are taken where nothing else is said.
"""

from __future__ import annotations

import os
import re
from typing import Any, Final

from .._server.endpoints import from_descriptors

__all__ = ["parse_where"]

_LOOPBACK: Final = "127.0.0.1"
_MODE = re.compile(r"(?:0o?)?([0-7]{3})")


def parse_where(
    server: str | None, descriptors: list[int], mode: str | None, owner: str | None
) -> dict[str, Any]:
    """What `Server` is given to listen.

    Args:
        server: The text of --server.
        descriptors: The numbers of --fd.
        mode: The text of --unix-mode, in octal digits.
        owner: The text of --unix-owner.

    Returns:
        Options by name; none if nothing says where.

    Raises:
        ValueError: a text is malformed, or two exclude each other.
        OSError: a descriptor is no socket's.
    """
    if server is not None and descriptors:
        raise ValueError("--server and --fd exclude each other")
    path = _unix_path(server)
    if path is None and (mode or owner):
        raise ValueError("--unix-mode and --unix-owner need --server unix:PATH")
    if path is not None:
        given = {} if mode is None else {"unix_mode": _mode(mode)}
        return {"unix": path, "unix_owner": owner, **given}
    if descriptors:
        return {"sock": from_descriptors(descriptors)}
    if server is not None:
        hosts, port = _address(server)
        return {"host": hosts[0] if len(hosts) == 1 else hosts, "port": port}
    if os.environ.get("LISTEN_FDS") and os.environ.get("LISTEN_PID") == str(os.getpid()):
        return {"sock": "systemd"}
    return {}


def _unix_path(server: str | None) -> str | None:
    scheme, colon, path = (server or "").partition(":")
    if scheme != "unix" or not colon or path.isdigit():
        return None
    if not path:
        raise ValueError("--server 'unix:' has no path: write unix:/run/app.sock")
    return path


def _mode(text: str) -> int:
    found = _MODE.fullmatch(text)
    if found is None:
        raise ValueError(f"--unix-mode has to be three octal digits such as 660, not {text!r}")
    return int(found[1], 8)


def _address(text: str) -> tuple[list[str], int]:
    hosts, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"--server {text!r} has no port: write :8080 or 127.0.0.1:8080")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(f"--server {text!r}: the port has to be 0 to 65535")
    if not hosts:
        return [_LOOPBACK], int(port)
    return [_host(host.strip(), text) for host in hosts.split(",")], int(port)


def _host(host: str, text: str) -> str:
    if not host:
        raise ValueError(f"--server {text!r}: a host is empty")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    if ":" in host:
        raise ValueError(f"--server {text!r}: write an IPv6 address in brackets, [::1]:8080")
    return host
