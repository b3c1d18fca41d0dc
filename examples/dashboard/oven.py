# Part of the dashboard: python examples/dashboard/serve.py
"""What the dashboard shows: an oven, which is simulated, and who looks at it.

The page has two sockets. On `/live` each viewer gets what has been in the last minute, and then
what is, ten times a second. On `/control` who knows the token sets the temperature. No path has
the proxy's prefix: nginx takes it off, and the page's own addresses are relative.
"""

import collections
import hmac
import json
import threading
import time

import scriptling.websocket as ws

RATE = 10  # times a second
KEPT = 60 * RATE  # what a new viewer gets to begin with
LOWEST, HIGHEST = 20, 250  # degrees Celsius
NO_TOKEN = 4401  # a close code, as the page knows it


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
    """The two sockets, and the thread that pushes. Use it in a `with`."""

    def __init__(self, token):
        self._token = token.encode()
        self._oven = Oven()
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
        client.send({"history": list(self._last.copy())})  # it grows meanwhile
        self._room.join(client)
        for _ in client:
            pass  # what it says does not matter

    def control(self, client):
        """Serve who sets the temperature: {"token": ...} comes first, then {"target": 180}."""
        # compare_digest takes the same time wherever the two differ.
        if not hmac.compare_digest(_text(client.receive(timeout=10), "token"), self._token):
            client.close(NO_TOKEN, "this is not the token")
            return
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
        self._last.append(values)
        return {**values, "viewers": len(self._room)}


def _field(message, key):
    """What a JSON message has under a key, or None: peers send anything."""
    try:
        return json.loads(message)[key]
    except (TypeError, ValueError, KeyError, IndexError, RecursionError):
        return None


def _text(message, key):
    value = _field(message, key)
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b""


def _number(message, key):
    value = _field(message, key)
    return value if type(value) in (int, float) else None
