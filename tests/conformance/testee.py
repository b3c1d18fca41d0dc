"""This package as the suite's peer: it sends every message back.

    testee.py server
    testee.py client URL CASES

It writes lines of JSON: {"codec", "engine", "versions"}, as a server with its {"port"}; a client
then {"case", "outcome"} for every case that has ended. A server ends with its input.
"""

import contextlib
import json
import platform
import sys
import zlib
from importlib import metadata

import scriptling_ws as ws
from scriptling_ws import _kernel as _frame
from scriptling_ws._network.waiting import engine

AGENT = "scriptling-ws"
OPTIONS = {"binary_type": bytes, "compression": "deflate"}


def say(**what):
    print(json.dumps(what), flush=True)


def describe():
    versions = {
        "scriptling-ws": ws.__version__,
        platform.python_implementation(): platform.python_version(),
        "wsproto": metadata.version("wsproto"),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }
    return {
        "codec": _frame.IMPLEMENTATION,
        "engine": engine().name,
        "versions": versions,
    }


def echo(conn):
    with contextlib.suppress(ws.ConnectionClosed):  # most cases are about that
        for message in conn:
            if isinstance(message, str):
                conn.send(message)
            else:
                conn.send_binary(message)


def run_case(url, case):
    """How the connection ended."""
    try:
        with ws.connect(f"{url}/runCase?case={case}&agent={AGENT}", **OPTIONS) as conn:
            echo(conn)
    except ws.WebSocketError as error:
        return repr(error)
    return f"{conn.close_code} {conn.close_reason}"


def main():
    role, *arguments = sys.argv[1:]
    if role == "client":
        url, cases = arguments
        say(**describe())
        for case in range(1, int(cases) + 1):
            say(case=case, outcome=run_case(url, case))
    else:
        with ws.Server(echo, port=0, **OPTIONS) as server:
            say(port=server.port, **describe())
            engine().blocking(sys.stdin.read)


if __name__ == "__main__":
    main()
