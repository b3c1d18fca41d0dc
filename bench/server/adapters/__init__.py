"""The servers that are measured, each behind one function.

`serve(announce)` listens on a port of 127.0.0.1, calls `announce` with it, and sends every
message back until its process ends.  A connection has no pings, as all of them are active,
and no compression; messages are `bytes` objects.
"""
