"""The chat of examples/ as a program, those who visit its page, and a client that is a program."""

import contextlib
import json
import re
import signal

import scriptling_ws as ws
from pages import SECONDS, visitor
from places import REPOSITORY
from processes import Process, python_environment

CHAT = REPOSITORY / "examples" / "chat"


class Chat:
    """The example, which can be killed and started again at its port.

    Attributes:
        url: The address of its page.
    """

    def __init__(self, redis=None):
        self._env = python_environment(CHAT_REDIS=redis or "")
        self._process = None
        self.port = 0

    def start(self):
        command = ["-m", "scriptling_ws", "--server", f"127.0.0.1:{self.port}"]
        self._process = Process.python(
            *command, "examples/chat/setup.py", cwd=REPOSITORY, env=self._env
        )
        line = self._process.line_with("listening on")
        self.port = int(re.search(r":(\d+) ", line)[1])
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def kill(self):
        """End it as `kill -9` does: no connection is closed by it."""
        self.signal(signal.SIGKILL)
        self.end()

    def signal(self, number):
        self._process.send_signal(number)

    def end(self):
        if self._process is not None:
            with self._process:
                pass
            self._process = None

    @contextlib.contextmanager
    def joined(self, name, **more):
        """A program of that name in the chat."""
        with self.connected() as program:
            program.conn.send({"name": name, **more})
            yield program

    @contextlib.contextmanager
    def connected(self):
        """A program that has not said its name."""
        with ws.connect(f"ws://127.0.0.1:{self.port}/chat", binary_type=bytes) as conn:
            yield Program(conn)


@contextlib.contextmanager
def chatting(redis=None):
    """The example as it runs; it is ended in any case."""
    chat = Chat(redis)
    try:
        yield chat.start()
    finally:
        chat.end()


class Program:
    """A client of the chat that is no browser."""

    def __init__(self, conn):
        self.conn = conn

    def next(self, event, **fields):
        """The next event of a kind, with these fields; what comes before it is passed over."""
        while True:
            message = self.conn.receive(SECONDS)
            assert message is not None, f"no {event}: closed with {self.conn.close_code}"
            if isinstance(message, bytes):
                head, _, data = message.partition(b"\n")
                found = {**json.loads(head), "data": data}
            else:
                found = json.loads(message)
            if found["event"] == event and fields.items() <= found.items():
                return found

    def next_event(self):
        """What the next event is."""
        message = self.conn.receive(SECONDS)
        head = message.partition(b"\n")[0] if isinstance(message, bytes) else message
        return json.loads(head)["event"]

    def say(self, text, **more):
        self.conn.send({"text": text, **more})


class Person:
    """Somebody at the page."""

    def __init__(self, page):
        self.page = page
        self.status = page.locator("#status")
        self.messages = page.locator(".message")
        self.text = page.get_by_label("Message", exact=True)

    def join(self, name):
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_role("button", name="Join").click()
        self.is_("online")
        # Until the first list of members has come, the page says of nobody that they have joined.
        self.page.locator("#members li", has_text=name).first.wait_for(state="attached")

    @contextlib.contextmanager
    def visiting(self, name):
        """Join, and leave in the end."""
        self.page.set_viewport_size({"width": 1280, "height": 720})
        self.page.emulate_media(color_scheme="light", reduced_motion="no-preference")
        self.join(name)
        yield self
        self.page.keyboard.press("Escape")
        if self.page.locator("#leave").is_visible():
            self.page.locator("#leave").click()

    def is_(self, state):
        """Wait for a state of the connection."""
        self.page.locator(f'#status[data-state="{state}"]').wait_for()

    def say(self, text):
        self.text.fill(text)
        self.text.press("Enter")

    def message(self, text):
        """The one message with this text, once it is there."""
        found = self.messages.filter(has_text=text)
        found.wait_for()
        return found

    def event(self, text):
        """Wait until the page says that something has happened."""
        self.page.locator(".event", has_text=text).last.wait_for()

    def texts(self):
        """What was said, in order."""
        return self.page.locator(".message .body").all_inner_texts()


@contextlib.contextmanager
def person(browser, chat, name=None, **options):
    """Somebody with a browser of its own, who has joined if a name is given."""
    with visitor(browser, chat.url, **options) as page:
        found = Person(page)
        if name is not None:
            found.join(name)
        yield found
