"""An application for the adapters' tests, and the servers that run it, each by its name.

    python adapted.py SERVER PORT [CERTIFICATE]

What a test wants to know of a handler's end it prints: a line for each that has ended.
"""

import signal
import sys
from functools import partial

from scriptling_ws import HandshakeError, Routes, asgi, wsgi

routes = Routes()
PAGE = b"<!doctype html><title>a page</title><p>the page"


@routes.websocket("/echo", binary_type=bytes, subprotocols=["v2", "v1"])
def echo(client):
    for message in client:
        if isinstance(message, str):
            client.send(message)
        else:
            client.send_binary(message)


@routes.websocket("/lists")
def lists(client):
    for message in client:
        client.send_binary([*message, 7])


@routes.websocket("/close")
def close(client):
    client.close(4000, "bye é")


@routes.websocket("/fails")
def fails(client):
    raise ZeroDivisionError("on purpose")


@routes.websocket("/end")
def end(client):
    client.send("open")
    client.receive(None)
    print("ended", client.close_code, client.close_reason, flush=True)


@routes.websocket("/until-sigterm-is-heard")
def heard(client):
    while signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        if client.receive(0.05) is None and not client.connected():
            return
    client.send("heard")
    client.receive(None)


@routes.websocket("/about")
def about(client):
    request = client.request
    client.send(
        {
            "path": request.path,
            "query": request.query,
            "secure": request.secure,
            "cookie": request.headers.get("cookie"),
            "subprotocol": client.subprotocol,
            "client": client.remote_addr.rpartition(":")[0],
        }
    )
    client.receive(None)


@routes.websocket("/ping")
def ping(client):
    try:
        client.send({"took": client.ping(10) is not None})
    except NotImplementedError as error:
        client.send(str(error))
    client.receive(None)


def page(environ, start_response):
    """A WSGI application, which has a WebSocket in a view of its own too."""
    if environ["PATH_INFO"] == "/view":
        try:
            with wsgi.accept(environ, binary_type=bytes, origins=["https://friend.example"]) as ws:
                echo(ws)
        except HandshakeError as error:
            start_response(f"{error.status} Refused", list(error.headers.items()))
            return [error.body]
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(PAGE)))])
    return [PAGE]


application = wsgi.Middleware(page, routes)


async def events(scope, receive, send):
    """An ASGI application."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        headers = [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(PAGE))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PAGE})
    else:
        await send({"type": "websocket.close"})


asgi_application = asgi.Middleware(events, routes)


# -- the servers, without a command of their own ------------------------------------


def werkzeug(port, certificate=None):
    from werkzeug.serving import run_simple

    context = (certificate, certificate) if certificate else None
    run_simple("127.0.0.1", port, application, threaded=True, ssl_context=context)


def pywsgi(port, certificate=None):
    from gevent.pywsgi import WSGIServer

    options = {"certfile": certificate, "keyfile": certificate} if certificate else {}
    WSGIServer(("127.0.0.1", port), application, **options).serve_forever()


def wsgiref(port, certificate=None):
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, application).serve_forever()


def waitress(port, certificate=None):
    from waitress import serve

    serve(application, host="127.0.0.1", port=port)


if __name__ == "__main__":
    server, port, *certificate = sys.argv[1:]
    partial(globals()[server], int(port), *certificate)()
