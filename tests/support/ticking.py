"""Programs of greenlets, of which one ticks all the time, which shows that no call stops others."""

import textwrap

from processes import Process

_COMMON = """
import random, socket, ssl, sys, threading, time
import gevent
import scriptling_ws as ws

SOON = 8  # seconds, on a busy machine; what is to be told apart from it takes ten or more
ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.005)
        ticks += 1
gevent.spawn(tick)

def took(least, most, call, *arguments):
    # How long a call takes, and that others run meanwhile.
    before, start = ticks, time.monotonic()
    with gevent.Timeout(20):
        result = call(*arguments)
    seconds = time.monotonic() - start
    assert least <= seconds < most, (call, seconds)
    assert seconds < 0.1 or ticks > before, "the loop stood still"
    return result

def echo(client):
    for message in client:
        client.send(message) if isinstance(message, str) else client.send_binary(message)

settings = [(None, None)]
if len(sys.argv) > 1:
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(sys.argv[1])
    settings.append((ssl.create_default_context(cafile=sys.argv[2]), server_tls))

def open(server, **options):
    url = server.url.replace("127.0.0.1", "localhost")
    return ws.connect(url, ssl_context=client_tls, **{"close_timeout": 30, **options})
def serve(handler, **options):
    options = {"close_timeout": 30, **options}
    return ws.Server(handler, port=0, ssl_context=server_tls, **options)
"""


def run_program(first, body, *arguments):
    """Run a program to its end: `first`, what all of them have, and its body.

    The arguments are the files of a certificate and of its authority: then its body runs over TCP,
    and once more over TLS, in the same program, as most of its time goes to its start.
    """
    last = f"""
for client_tls, server_tls in settings:
    exec({textwrap.dedent(body)!r})
print("fine", flush=True)
"""
    program = first + _COMMON + last
    with Process.python("-W", "default", "-c", program, *arguments) as child:
        assert child.line() == "fine"
        child.end_input()
        assert child.finish()[1] == 0
