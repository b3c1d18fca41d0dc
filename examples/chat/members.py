# Started by setup.py: scriptling-ws --server :8080 examples/chat/setup.py
"""Who is in the chat: of one process, or by Redis of several.

A room carries messages. Who is there is something that lasts, and has a place of its own. A name
has one holder, who shows it by a key; of one holder there may be several connections: tabs, or one
that came back before the server has noticed that the old one is gone.
"""

import contextlib
import hashlib
import hmac
import secrets
import threading
from typing import NamedTuple

from shared import Shared


class Entry(NamedTuple):
    """A connection's place among the members."""

    number: str
    name: str
    key: str

    @property
    def folded(self):
        """The name as it is compared: Ann and ann are one."""
        return self.name.casefold()

    @classmethod
    def of(cls, name, key):
        """A new one. Of the key, which may be of any length, it has a digest."""
        return cls(secrets.token_hex(8), name, hashlib.sha256(key.encode()).hexdigest())


class Members:
    """The members of this process."""

    def __init__(self):
        self._lock = threading.RLock()  # every connection's handler runs on a thread of its own
        self._entries = set()
        self._gone = []

    def turn(self):
        """A lock to tell everybody about a change with, so that nobody tells of an older one."""
        return self._lock

    def enter(self, name, key):
        """Take a place; None if the name is somebody else's."""
        entry = Entry.of(name, key)
        with self._lock:
            for other in self._entries:
                if other.folded == entry.folded and not hmac.compare_digest(other.key, entry.key):
                    return None
            self._entries.add(entry)
        return entry

    def renew(self, _entry):
        """Say that a member is still here; whether `gone` has something."""
        with self._lock:
            return bool(self._gone)

    def leave(self, entry):
        """Give a place back."""
        with self._lock:
            self._entries.discard(entry)
            self._gone.append(entry)

    def gone(self):
        """The names that have left, while it is one's turn.

        A name that was given out is done with as the next one is asked for: where telling of it
        fails, it is told of later.
        """
        while self._gone:
            entry = self._gone[0]
            if all(other.folded != entry.folded for other in self._entries):
                yield entry.name
            self._gone.pop(0)

    def names(self):
        """All names, in order."""
        with self._lock:
            return sorted({entry.name for entry in self._entries})


class RedisMembers(Shared):
    """The members of all processes that use one Redis server.

    Each connection has an entry in a sorted set, whose score is when it runs out, and each name a
    key with its holder's. Both are renewed. Who leaves has an entry that has run out, as those have
    that a killed process has left behind. It is there until all were told: whoever sees it says so.
    """

    ENTRIES = "scriptling-chat:members"
    NAME = "scriptling-chat:name:"
    TURN = "scriptling-chat:turn"

    def __init__(self, url, lasts):
        """`lasts` is for how many seconds an entry is there that is not renewed."""
        super().__init__(url, decode_responses=True)
        self._lasts = lasts

    @contextlib.contextmanager
    def turn(self):
        """As Members has it. It runs out too: who holds it may be killed."""
        with self._told(), self._redis.lock(self.TURN, timeout=10, blocking_timeout=5):
            yield

    def enter(self, name, key):
        """As Members has it."""
        entry = Entry.of(name, key)
        with self._told():
            return entry if self._put(entry) else None

    def renew(self, entry):
        """As Members has it."""
        with self._told():
            self._put(entry)
            return bool(self._run_out())

    def leave(self, entry):
        """As Members has it."""
        with self._told():
            self._redis.zadd(self.ENTRIES, {_text(entry): 0})
            if not self._is_here(entry.folded):
                self._redis.delete(self.NAME + entry.folded)

    def gone(self):
        """As Members has it."""
        told = set()
        with self._told():
            for text in self._run_out():
                name = _name(text)
                if name.casefold() not in told and not self._is_here(name.casefold()):
                    told.add(name.casefold())
                    yield name
                self._redis.zrem(self.ENTRIES, text)

    def names(self):
        """As Members has it."""
        with self._told():
            here = self._redis.zrangebyscore(self.ENTRIES, self._now(), "+inf")
            return sorted({_name(text) for text in here})

    def _put(self, entry):
        """Make or renew an entry; whether its name is its own."""
        holder = self.NAME + entry.folded
        if not self._redis.set(holder, entry.key, nx=True, px=self._milliseconds()):
            if not hmac.compare_digest(self._redis.get(holder) or "", entry.key):
                return False
            self._redis.pexpire(holder, self._milliseconds())
        self._redis.zadd(self.ENTRIES, {_text(entry): self._now() + self._lasts})
        return True

    def _run_out(self):
        """The entries that have run out."""
        return self._redis.zrangebyscore(self.ENTRIES, "-inf", self._now())

    def _is_here(self, folded):
        here = self._redis.zrangebyscore(self.ENTRIES, self._now(), "+inf")
        return any(_name(text).casefold() == folded for text in here)

    def _milliseconds(self):
        return max(1, int(self._lasts * 1000))


def _text(entry):
    return f"{entry.number} {entry.name}"


def _name(text):
    return text.partition(" ")[2]
