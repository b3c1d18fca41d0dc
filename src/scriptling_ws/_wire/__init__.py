"""The wire: from messages to frames and back, without I/O (RFC 6455 sections 5 to 8, RFC 7692).

No socket, clock, thread or lock in here, but one lock that the caller holds: what is in this wing
is given bytes and gives bytes, and can be tested and fuzzed so.
"""
