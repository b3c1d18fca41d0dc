"""Programs without annotations, which a type checker accepts as well: see good.py."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, check-untyped-defs
# pyright: basic

import scriptling.runtime as runtime
import scriptling_ws as ws


def echo(client):
    for message in client:
        client.send(message) if ws.is_text(message) else client.send_binary(message)


@runtime.http.websocket("/decorated")
def decorated(client):
    return client.receive()


@runtime.http.websocket("/fast", binary_type=bytes)
def fast(client, greeting="hello"):
    client.send(greeting)


def main(options):
    ws.Server(echo)
    ws.Server(echo, binary_type=bytes)
    ws.Server(echo, **options)
    runtime.http.websocket("/echo", echo)
    runtime.http.websocket("/echo", echo, binary_type=bytes)
    ws.serve(echo, host="127.0.0.1", port=8080)
    for message in ws.connect("ws://127.0.0.1:8080/", **options):
        print(message)
