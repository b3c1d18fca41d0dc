"""Rooms: a message to many connections, which never waits for one that does not read."""
