"""The network: sockets, TLS, dialling, listening, and the one seam for waiting.

Nothing in here knows WebSocket. Whatever sleeps, locks or starts a thread asks `waiting`.
"""
