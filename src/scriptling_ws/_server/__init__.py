"""The server: from a listening socket to a handler's return, and the pages beside WebSockets."""
