# Started by setup.py: scriptling-ws --server :8080 examples/chat/setup.py
"""What was said in the last minutes, for those who come back after an outage.

It is kept nowhere else. Only messages that have an id are: by it a page knows those that it has.
"""

import collections
import json
import threading
import time

from shared import Shared

MESSAGES = 100
BYTES = 16 * 1024 * 1024
SECONDS = 600


class Recent:
    """The last messages of this process."""

    def __init__(self):
        self._lock = threading.Lock()
        self._messages = collections.deque()  # each with its time
        self._bytes = 0

    def add(self, message):
        """Keep a message: the bytes of its event, and of its image behind a line end."""
        now = time.time()
        with self._lock:
            self._messages.append((now, message))
            self._bytes += len(message)
            while self._messages and (
                len(self._messages) > MESSAGES
                or self._bytes > BYTES
                or self._messages[0][0] < now - SECONDS
            ):
                self._bytes -= len(self._messages.popleft()[1])

    def of_the_last(self, seconds):
        """The messages of so many seconds, each with its time, the oldest first."""
        begin = time.time() - seconds
        with self._lock:
            return [(at, message) for at, message in self._messages if at >= begin]


class RedisRecent(Shared):
    """The last messages of all processes, in a sorted set by their times."""

    MESSAGES = "scriptling-chat:recent"

    def add(self, message):
        """As Recent has it."""
        with self._told():
            now = self._now()
            with self._redis.pipeline() as pipeline:
                pipeline.zadd(self.MESSAGES, {message: now})
                pipeline.zremrangebyscore(self.MESSAGES, "-inf", now - SECONDS)
                pipeline.zremrangebyrank(self.MESSAGES, 0, -MESSAGES - 1)
                pipeline.expire(self.MESSAGES, SECONDS)
                pipeline.execute()

    def of_the_last(self, seconds):
        """As Recent has it."""
        with self._told():
            begin = self._now() - min(seconds, SECONDS)
            found = self._redis.zrangebyscore(self.MESSAGES, begin, "+inf", withscores=True)
            return [(at, message) for message, at in found]


def with_time(message, at):
    """A message as it is sent again: its event has the time when it was sent first."""
    event, end, image = message.partition(b"\n")
    return json.dumps({**json.loads(event), "at": round(at, 3)}).encode() + end + image
