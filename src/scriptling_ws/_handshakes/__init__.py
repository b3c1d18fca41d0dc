"""The opening handshake, without I/O (RFC 6455 section 4, RFC 9110, RFC 9112).

Heads, the upgrade that is asked for and the one that is answered, URLs, and the terms of
compression that both ends agree on.
"""
