"""What is in deploy/, made ready to run here: each place that a user changes, changed."""

import re
import shlex
import socket
import textwrap

from places import REPOSITORY
from processes import Process
from programs import free_port
from servers import Answer, head, read_all

DEPLOY = REPOSITORY / "deploy"
TIMEOUT = 10


def text_of(name):
    return (DEPLOY / name).read_text(encoding="utf-8")


def changed(text, changes):
    """A text with words replaced, each of which has to be there."""
    for old, new in changes.items():
        assert old in text, f"there is no {old!r} any more"
        text = text.replace(old, new)
    return text


def ends(one, other):
    """The changes that all three proxies need: their servers' addresses."""
    return {"127.0.0.1:8080": one, "127.0.0.1:8081": other}


def nginx_text(one, other):
    """The site, for these two servers; with the words of `programs`."""
    return changed(
        text_of("nginx/scriptling-ws.conf"),
        {
            **ends(one, other),
            "listen 443 ssl;": "listen LISTEN ssl;",
            "server_name example.com;": "server_name localhost;",
            "/etc/ssl/example.com.pem": "DIRECTORY/server.pem",
            "/etc/ssl/example.com.key": "DIRECTORY/server.pem",
        },
    )


def haproxy_text(one, other):
    """Likewise."""
    return changed(
        text_of("haproxy/haproxy.cfg"),
        {
            **ends(one, other),
            "maxconn 20000": "maxconn 200",  # more descriptors than a test may have
            "bind :443 ssl crt /etc/haproxy/example.com.pem": "bind LISTEN ssl crt "
            "DIRECTORY/server.pem",
        },
    )


# It has no certificate for localhost, asks nobody for one, and listens nowhere else.
_CADDY = """\
{
	admin off
	auto_https off
}
https://localhost:OWN_PORT {
	bind 127.0.0.1
	tls DIRECTORY/server.pem DIRECTORY/server.pem
"""


def caddy_text(one, other):
    """Likewise."""
    return changed(text_of("caddy/Caddyfile"), {**ends(one, other), "example.com {\n": _CADDY})


def unit(name):
    """A unit of systemd's: what it says, by section and key, each with all its values."""
    sections, section = {}, None
    for line in text_of(f"systemd/{name}").splitlines():
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(found[1], {})
        elif line and not line.startswith("#"):
            key, mark, value = line.partition("=")
            assert mark, line
            section.setdefault(key, []).append(value)
    return sections


def exec_start():
    """The arguments of the service's command, without the command."""
    (line,) = unit("scriptling-ws.service")["Service"]["ExecStart"]
    return shlex.split(line)[1:]


def image():
    """The instructions of the Dockerfile, in order: each a name and its text."""
    text = re.sub(r"^#.*\n", "", text_of("docker/Dockerfile"), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line]


SETUP = """
    import scriptling.runtime as runtime

    def echo(client):
        for message in client:
            client.send(message) if isinstance(message, str) else client.send_binary(message)

    runtime.http.websocket("/echo", echo, binary_type=bytes)
    runtime.http.get("/page", lambda request: "the page")
"""


class Instance:
    """A server as the command runs it, on a port of its own, that can be restarted.

    Attributes:
        port: The port.
        address: The address, as a proxy has it.
    """

    def __init__(self, folder, *options):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._folder = folder
        (folder / "setup.py").write_text(textwrap.dedent(SETUP))
        options = ["health=/healthz", "metrics=/metrics", *options]
        self._options = [part for option in options for part in ("-o", option)]
        self._process = None

    def start(self):
        """Start it, and wait until its health is good."""
        command = ["-m", "scriptling_ws", "--server", self.address, *self._options, "setup.py"]
        self._process = Process.python(*command, cwd=self._folder)
        self._process.line_with("listening on")
        assert self.health() == 200

    def health(self):
        """The status of its health; 0 where nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as sock:
                sock.sendall(head("/healthz"))
                return Answer(read_all(sock)).status
        except ConnectionRefusedError:
            return 0

    def stop(self):
        """End it as an operator does, and wait for that."""
        if self._process is not None:
            with self._process:
                self._process.terminate()
                assert self._process.finish()[1] == 0
            self._process = None

    def restart(self):
        self.stop()
        self.start()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, error, traceback):
        if self._process is not None:
            with self._process:
                pass


def has_option(option):
    """Whether the command has an option."""
    with Process.python("-m", "scriptling_ws", "--help") as process:
        lines, _ = process.finish()
    return option in "\n".join(lines)
