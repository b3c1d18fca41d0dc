# Part of the dashboard: python examples/dashboard/serve.py
"""What the dashboard shows: an oven, which is simulated, and who looks at it.

The page has two sockets. On `/live` each viewer gets what has been in the last minute, and then
what is, ten times a second. On `/control` who knows the token sets the temperature. No path has
the proxy's prefix: nginx takes it off, and the page's own addresses are relative.

Whether somebody may control is decided before the upgrade, by `authorize=`. A program sends the
token with the request, as `Authorization: Bearer`. A browser's script can send no header with a
WebSocket, but it can with a request: the page unlocks the control by one, and gets a cookie, which
the browser sends with the WebSocket. No script can read it, and the server refuses WebSockets from
pages of other origins, with which the browser might send it too.
"""

import collections
import hmac
import json
import threading
import time

import scriptling.websocket as ws
from scriptling.runtime import Response

RATE = 10  # times a second
KEPT = 60 * RATE  # what a new viewer gets to begin with
LOWEST, HIGHEST = 20, 250  # degrees Celsius
COOKIE = "dashboard"


class Oven:
    """An oven with a thermostat: a second of its time is one of ours."""

    POWER = 9.0  # degrees a second that the heater adds at full power
    LOSS = 0.03  # of the difference to the room, which it loses each second
    GAIN = 0.045  # of full power for each degree that is missing

    def __init__(self):
        self.temperature = 20.0
        self.target = 180.0
        self.power = 0.0

    def step(self, seconds):
        """Let some time pass."""
        holding = (self.target - LOWEST) * self.LOSS / self.POWER
        wanted = holding + (self.target - self.temperature) * self.GAIN
        # A heater takes its time.
        self.power += (min(1.0, max(0.0, wanted)) - self.power) * min(1.0, seconds / 1.5)
        change = self.power * self.POWER - (self.temperature - LOWEST) * self.LOSS
        self.temperature += change * seconds


class Dashboard:
    """The two sockets, and the thread that pushes. Use it in a `with`.

    Attributes:
        has_token: For `authorize=`: it lets in who sends the token.
    """

    def __init__(self, token):
        self.has_token = ws.bearer_auth(token)
        # Made from the token, so that it outlives a restart; and the token cannot be made from it.
        self._cookie = hmac.new(token.encode(), b"dashboard", "sha256").hexdigest()
        self._oven = Oven()
        self._lock = threading.Lock()  # guards the next, which the thread adds to
        self._last = collections.deque(maxlen=KEPT)
        # Who is slow misses old values, and holds nobody up.
        self._room = ws.room("dashboard", queue=RATE, policy="drop_oldest")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._push, name="dashboard", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()

    def live(self, client):
        """Serve a viewer."""
        with self._lock:
            history = list(self._last)
        client.send({"history": history})
        self._room.join(client)
        for _ in client:
            pass  # what it says does not matter

    def may_control(self, request):
        """For `authorize=`: it lets in who sends the cookie or the token; others get 401."""
        given = request.cookies.get(COOKIE, "").encode()
        # It takes the same time wherever the two differ.
        if hmac.compare_digest(given, self._cookie.encode()):
            return None
        return self.has_token(request)

    def unlock(self, _request):
        """Give the cookie to who has sent the token."""
        return Response(204).with_cookie(COOKIE, self._cookie, same_site="Strict")

    def lock(self, _request):
        """Take it back."""
        return Response(204).without_cookie(COOKIE)

    def control(self, client):
        """Serve who sets the temperature: {"target": 180}."""
        client.send({"lowest": LOWEST, "highest": HIGHEST, "target": self._oven.target})
        for message in client:
            target = _number(message, "target")
            if target is None or not LOWEST <= target <= HIGHEST:
                client.send({"error": f"the target has to be from {LOWEST} to {HIGHEST} degrees"})
            else:
                self._oven.target = float(target)
                client.send({"target": target})

    def _push(self):
        begin = time.monotonic()
        number = 0
        # Each at its own time: being late once does not make the next ones late.
        while not self._over.wait(max(0.0, begin + number / RATE - time.monotonic())):
            self._oven.step(1 / RATE)
            self._room.send(self._values(number))
            number += 1

    def _values(self, number):
        oven = self._oven
        values = {
            "n": number,
            "at": round(time.time(), 2),
            "temperature": round(oven.temperature, 2),
            "target": oven.target,
            "power": round(100 * oven.power, 1),
        }
        with self._lock:
            self._last.append(values)
        return {**values, "viewers": len(self._room)}


def _number(message, key):
    """A number that a JSON message has, or None: peers send anything."""
    try:
        value = json.loads(message)[key]
    except (TypeError, ValueError, KeyError, IndexError, RecursionError):
        return None
    return value if type(value) in (int, float) else None
