"""TLS settings that a caller gives, checked before a socket is opened for them."""

from __future__ import annotations

import ssl

__all__ = ["check_context"]


def check_context(context: object, *, server_side: bool) -> None:
    """Check TLS settings that a caller gives, by what they can do.

    Their class says nothing: programs replace `ssl.SSLContext` at any time, as
    `truststore.inject_into_ssl()` does, and contexts of both classes are there then.

    Args:
        context: The settings.
        server_side: Which side they are for.

    Raises:
        TypeError: no TLS session can be made of it.
        ValueError: it is for the other side, which every handshake would fail by.
    """
    if isinstance(context, type) or not callable(getattr(context, "wrap_bio", None)):
        raise TypeError(
            "ssl_context has to be an ssl.SSLContext, or another object with its wrap_bio, "
            f"not {type(context).__name__}"
        )
    protocol = getattr(context, "protocol", None)
    if server_side and protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError(
            "ssl_context is a client's: make it with ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) "
            "and load_cert_chain"
        )
    if not server_side and protocol == ssl.PROTOCOL_TLS_SERVER:
        raise ValueError(
            "ssl_context is a server's: make it with ssl.create_default_context(), and "
            "load_verify_locations for an authority of your own"
        )
