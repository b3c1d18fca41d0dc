"""Instructions per JSON message, in each of the ways to write and to read one.

Under valgrind's callgrind, which dumps what it has counted at each call of getloadavg(): so the
calls of one case are counted by themselves, without the other end's. The interpreter's and orjson's
own part is in them, the system's is not. As a script:

    python bench/documents.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

import scriptling_ws as ws
from scriptling_ws import _kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MESSAGES = 20  # that fit into a socket
ROUNDS = 6  # the first one is not counted
FAST = {"text_type": bytes, "loads": orjson.loads, "dumps": orjson.dumps}
TRADE = {
    "type": "trade",
    "symbol": "EURUSD",
    "price": 1.08315,
    "flags": ["a", "b"],
    "id": 123456789,
}
DOCUMENTS = {
    "ASCII": {**TRADE, "text": "x" * 900},
    "accents": {**TRADE, "text": "Zoë café — " * 60},
}


def cases() -> Iterator[tuple[str, dict[str, Any], Callable[[Any, Any], object], bool]]:
    """The name of each case, its connections' options, its call, and whether that sends."""
    yield "send(dict)", {}, lambda conn, value: conn.send(value), True
    yield "send(orjson.dumps().decode())", {}, _send_str, True
    yield "send(dict), dumps=orjson.dumps", FAST, lambda conn, value: conn.send(value), True
    yield "send_text(orjson.dumps())", FAST, _send_bytes, True
    yield "receive_json()", {}, lambda conn, _: conn.receive_json(9), False
    yield "orjson.loads(receive())", {}, lambda conn, _: orjson.loads(conn.receive(9)), False
    yield (
        "receive_json(), loads=, text_type=bytes",
        FAST,
        lambda conn, _: conn.receive_json(9),
        False,
    )


def _send_str(conn: Any, value: object) -> None:
    conn.send(orjson.dumps(value).decode())


def _send_bytes(conn: Any, value: object) -> None:
    conn.send_text(orjson.dumps(value))


def run() -> None:
    """Each case in turn, for callgrind."""
    for value in DOCUMENTS.values():
        for _, options, call, sends in cases():
            near, far = ws.pair(ping_interval=None, **options)
            for _ in range(ROUNDS):
                for _ in range(0 if sends else MESSAGES):
                    far.send(value)
                os.getloadavg()
                for _ in range(MESSAGES):
                    call(near, value)
                os.getloadavg()
                for _ in range(MESSAGES if sends else 0):
                    far.receive(9)


def counts(folder: Path) -> Iterator[int]:
    """What was counted between each two dumps, from the first to the second."""
    at = 2
    while (dump := folder / f"out.{at}").exists():
        found = re.search(r"^totals: (\d+)", dump.read_text(encoding="utf-8"), re.M)
        assert found
        yield int(found[1])
        at += 2


def main() -> None:
    if sys.argv[1:] == ["run"]:
        run()
        return
    if _kernel.IMPLEMENTATION != "compiled":
        raise SystemExit("there is no compiled kernel")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        valgrind = ["valgrind", "--tool=callgrind", "--dump-before=getloadavg"]
        out = f"--callgrind-out-file={folder / 'out'}"
        command = [*valgrind, out, sys.executable, __file__, "run"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        counted = list(counts(folder))
    for kind, value in DOCUMENTS.items():
        print(f"{kind}, {len(orjson.dumps(value))} bytes")
        for name, *_ in cases():
            rounds, counted = counted[:ROUNDS], counted[ROUNDS:]
            print(f"  {name:42} {min(rounds[1:]) // MESSAGES:,}")
    assert not counted


if __name__ == "__main__":
    main()
