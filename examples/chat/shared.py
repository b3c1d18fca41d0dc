# Started by setup.py: scriptling-ws --server :8080 examples/chat/setup.py
"""A Redis server that the chat's processes share. Its clock is the one that counts."""

import contextlib


class Shared:
    """What is kept there. Every method raises ConnectionError where it cannot be reached."""

    def __init__(self, url, **options):
        import redis  # needed here alone: pip install "scriptling-ws[redis]"

        self._error = redis.RedisError
        self._redis = redis.Redis.from_url(url, socket_timeout=5, **options)

    def close(self):
        """Close its connections."""
        self._redis.close()

    def _now(self):
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6

    @contextlib.contextmanager
    def _told(self):
        """Say what is wrong as a room does, by a ConnectionError."""
        try:
            yield
        except self._error as error:
            raise ConnectionError("the Redis server of the chat cannot be reached") from error
