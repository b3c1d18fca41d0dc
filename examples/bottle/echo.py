# Start it with: python examples/bottle/echo.py [PORT]
"""A WebSocket in a Bottle application, on gevent: a route with a part of the path."""

import sys

from gevent import monkey

monkey.patch_all()

from bottle import Bottle, HTTPResponse, request  # noqa: E402 - what it imports is patched
from gevent.pywsgi import WSGIServer  # noqa: E402

import scriptling_ws as ws  # noqa: E402
from scriptling_ws import wsgi  # noqa: E402

app = Bottle()


@app.get("/echo/<name>")
def echo(name):
    """Send every message back, with the name in the path."""
    try:
        client = wsgi.accept(request.environ)
    except ws.HandshakeError as refused:  # a page of another site, or no WebSocket at all
        return HTTPResponse(refused.body, refused.status, refused.headers)
    with client:
        for message in client:
            client.send(f"{name}: {message}")
    return ""


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    WSGIServer(("127.0.0.1", port), app).serve_forever()
