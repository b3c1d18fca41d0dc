"""A server as it stands behind a proxy, and configurations of proxies from their manuals."""

import contextlib
import http.client
import queue
import random

from pairs import MIB, tls_contexts
from programs import haproxy, nginx
from scriptling_ws.runtime import HTTP
from servers import TIMEOUT, echo, serving

SECOND = 1.0  # the shortest timeout that people give a proxy: nginx counts in seconds
OFTEN = SECOND / 5
REASON = "é" * 20

# nginx.org/en/docs/http/websocket.html, with the Host that its blog adds.
NGINX_WEBSOCKET = """
map $http_upgrade $connection_upgrade {
    default upgrade;
    ''      close;
}
server {
    listen LISTEN;
    location / {
        proxy_pass http://BACKEND;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header Host $host;
        proxy_read_timeout 60s;
    }
}
"""

# TLS ends at the proxy. $host is the host alone, without its port.
NGINX_TLS = NGINX_WEBSOCKET.replace(
    "listen LISTEN;",
    """listen LISTEN ssl;
    server_name localhost;
    ssl_certificate DIRECTORY/server.pem;
    ssl_certificate_key DIRECTORY/server.pem;""",
)
# Host as the client has sent it.
NGINX_HTTP_HOST = NGINX_TLS.replace("Host $host;", "Host $http_host;")

# HTTP/2 for pages; docs/proxies.md says why each line is there.
NGINX_HTTP2 = NGINX_HTTP_HOST.replace("LISTEN ssl;", "LISTEN ssl http2;").replace(
    "map ",
    """map $server_protocol $upgrade_of_http_1 {
    default  $upstream_http_upgrade;
    HTTP/2.0 '';
}
map """,
)
NGINX_HTTP2_HIDING = NGINX_HTTP2.replace(
    "proxy_read_timeout",
    """proxy_hide_header Upgrade;
        add_header Upgrade $upgrade_of_http_1 always;
        proxy_read_timeout""",
)

# What everybody starts with: to the server it speaks HTTP/1.0, and drops Upgrade.
NGINX_PLAIN = """
server {
    listen LISTEN;
    location / {
        proxy_pass http://BACKEND;
    }
}
"""

# Section 2.8 of HAProxy's configuration manual, the first example.
HAPROXY_SIMPLE = """
defaults
    mode http
    timeout connect 5000ms
    timeout client 50000ms
    timeout server 50000ms

frontend http-in
    bind LISTEN
    default_backend servers

backend servers
    server server1 BACKEND maxconn 32
"""

# The example of `timeout tunnel` in the same manual.
HAPROXY_TUNNEL = """
defaults
    mode http
    option http-server-close
    timeout connect 5s
    timeout client 30s
    timeout client-fin 30s
    timeout server 30s
    timeout tunnel 1h

frontend http-in
    bind LISTEN
    default_backend servers

backend servers
    server server1 BACKEND
"""

PROXIES = {
    "nginx": (nginx, NGINX_WEBSOCKET),
    "haproxy": (haproxy, HAPROXY_TUNNEL),
}
IDLE = {  # the same, and a connection on which nothing moves for a second is cut
    "nginx": (nginx, NGINX_WEBSOCKET.replace("timeout 60s", "timeout 1s")),
    "haproxy": (haproxy, HAPROXY_TUNNEL.replace("tunnel 1h", "tunnel 1s")),
    "haproxy-without-tunnel": (haproxy, HAPROXY_SIMPLE.replace("50000ms", "1000ms")),
}


class Backend:
    """A server with a WebSocket for each thing that is tried, pages, and a folder of files.

    Attributes:
        server: The server.
        ends: How its connections have ended, as their handlers saw it: code and reason.
        requests: The requests of the connections and of `/page`.
        file: What is in `/files/large`.
    """

    def __init__(self, folder, **options):
        self.ends = queue.SimpleQueue()
        self.requests = queue.SimpleQueue()
        self.file = random.Random(1).randbytes(3 * MIB + 1)
        (folder / "large").write_bytes(self.file)
        (folder / "index.html").write_text("<p>home")
        routes = HTTP()
        routes.websocket("/echo", self._echo, binary_type=bytes, subprotocols=["v2", "v1"])
        routes.websocket("/deflate", self._echo, compression="deflate", compression_threshold=0)
        routes.websocket("/small", self._echo, max_message_size=1000)
        routes.websocket("/silent", self._echo, ping_interval=None)
        routes.websocket("/pinging", echo, ping_interval=OFTEN)
        routes.websocket("/close", lambda client: client.close(4000, REASON))
        routes.get("/", lambda request: "home")
        routes.get("/page", self._page)
        routes.static("/files", folder)
        self.server = serving(routes=routes, **options)

    def _echo(self, client):
        self.requests.put(client.request)
        try:
            echo(client)
        finally:
            self.ends.put((client.close_code, client.close_reason))

    def _page(self, request):
        self.requests.put(request)
        return "the page"

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.server.close()


class Fetched:
    """A page as a client gets it through a proxy."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()


@contextlib.contextmanager
def http_client(proxy):
    """Requests over one connection to a proxy: a function of a path that returns the page."""
    tls = proxy.url.startswith("wss:")
    if tls:
        client = http.client.HTTPSConnection(
            "localhost", proxy.port, timeout=TIMEOUT, context=tls_contexts()[0]
        )
    else:
        client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=TIMEOUT)

    def fetch(path, method="GET", **headers):
        client.request(method, path, headers=headers)
        return Fetched(client.getresponse())

    with contextlib.closing(client):
        yield fetch


def fetch(proxy, path, method="GET", **headers):
    """One page."""
    with http_client(proxy) as client:
        return client(path, method, **headers)
