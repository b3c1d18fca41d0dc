"""Certificates and their keys, from the files that the command line names.

Rules:

- What is wrong with a file is one line that says what to do: OpenSSL's own texts name neither
  the file nor the mistake.
- A key that is encrypted is asked for at a terminal. Without one nothing waits for an answer, nor
  at a reload, when nobody may be there.
- A key that other users can read or replace is told of. It is used all the same: in a container
  or on a disk of Windows the mode of a file may mean nothing.
"""

from __future__ import annotations

import getpass
import os
import re
import ssl
import stat
import sys
from pathlib import Path
from typing import Final

__all__ = ["client_context", "load_certificate", "open_to_others"]

_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP


class _NotAskedError(Exception):
    """The key is encrypted, and nobody is to be asked for its password."""


class _NoTerminalError(Exception):
    """The key is encrypted, and nobody can be asked for its password."""


def load_certificate(certificate: str, key: str | None, *, ask: bool = True) -> ssl.SSLContext:
    """The TLS settings of a server.

    Args:
        certificate: The file of the certificate chain, in PEM.
        key: The file of its private key, None if that is in the same file.
        ask: Whether to ask for the password of an encrypted key, where there is a terminal.

    Raises:
        ValueError: one of the files cannot be used; the text says why, and what to do.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_chain(context, certificate, key, ("--tls-cert", "--tls-key"), ask=ask)
    return context


def client_context(
    authorities: str | None, certificate: str | None, key: str | None, *, insecure: bool
) -> ssl.SSLContext:
    """The TLS settings of a client.

    Args:
        authorities: The file of the certificates to trust, in PEM; None for the system's.
        certificate: The file of a chain to show the server, in PEM; None for none.
        key: The file of its private key, None if that is in the same file.
        insecure: Whether to trust any certificate.

    Raises:
        ValueError: as `load_certificate`.
    """
    if authorities is not None and not _CERTIFICATE.search(_read(authorities, "--cacert")):
        raise ValueError(f"cannot use --cacert {authorities!r}: it has no certificate (PEM)")
    try:
        context = ssl.create_default_context(cafile=authorities)
    except ssl.SSLError as error:
        raise ValueError(f"cannot use --cacert {authorities!r}: it is damaged ({error})") from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        _load_chain(context, certificate, key, ("--cert", "--key"), ask=True)
    return context


def _load_chain(
    context: ssl.SSLContext,
    certificate: str,
    key: str | None,
    names: tuple[str, str],
    *,
    ask: bool,
) -> None:
    """Have a context show a certificate; `names` are those of the options."""
    pem = _read(certificate, names[0])
    if not _CERTIFICATE.search(pem):
        raise ValueError(f"cannot use {names[0]} {certificate!r}: it has no certificate (PEM)")
    if key is None and not _KEY.search(pem):
        raise ValueError(
            f"cannot use {names[0]} {certificate!r}: there is no private key in it, so name the "
            f"key's file with {names[1]}"
        )
    where = f"{names[0]} {certificate!r}" if key is None else f"{names[1]} {key!r}"
    if key is not None and not _KEY.search(_read(key, names[1])):
        raise ValueError(f"cannot use {where}: it has no private key (PEM)")
    asked = []

    def password() -> str:
        asked.append(where)
        if not ask:
            raise _NotAskedError
        return _password(where)

    try:
        context.load_cert_chain(certificate, key, password=password)
    except _NotAskedError:
        raise ValueError(
            f"cannot use {where}: its key is encrypted, and a reload asks nobody for the password"
        ) from None
    except _NoTerminalError:
        raise ValueError(
            f"cannot use {where}: its key is encrypted, and there is no terminal to ask for the "
            "password at; write a key without one, readable by the server alone, with: "
            f"openssl pkey -in {key or certificate} -out FILE"
        ) from None
    except (OSError, ValueError) as error:  # an ssl.SSLError too; ValueError: a password too long
        raise ValueError(f"cannot use {where}: {_why(error, bool(asked))}") from error


def _read(path: str, option: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot use {option} {path!r}: {why}") from error


def _password(where: str) -> str:
    if not sys.stdin or not sys.stdin.isatty():
        raise _NoTerminalError
    return getpass.getpass(f"The password of the key in {where}: ")


def _why(error: Exception, asked: bool) -> str:
    if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
        return "the key belongs to another certificate"
    if asked:
        return f"the password is wrong, or the key is damaged ({error})"
    return f"the key or the certificate is damaged ({error})"


def open_to_others(path: str) -> bool:
    """Whether other users of this machine can read a key's file, or replace what is in it."""
    return os.name != "nt" and bool(Path(path).stat().st_mode & _OTHERS)
