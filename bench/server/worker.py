"""The process of one server: serves until its input ends, or until it is killed.

    python -m bench.server.worker SERVER

prints {"ready": true, "port": ...}, or {"absent": ...} with the reason why it cannot.
"""

from __future__ import annotations

import os
import resource
import sys
import threading

from ..worker import answer
from .contestants import CONTESTANTS


def raise_limit() -> None:
    """Allow as many descriptors as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def end_with_input() -> None:
    """The end of its input comes also when the benchmark dies: no server is left behind."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    threading.Thread(target=end_with_input, daemon=True).start()
    try:
        raise_limit()
        serve = CONTESTANTS[sys.argv[1]].load()
        serve(lambda port: answer({"ready": True, "port": port}))
    except Exception as error:
        answer({"absent": f"failed: {type(error).__name__}: {error}"})
    os._exit(0)


if __name__ == "__main__":
    main()
