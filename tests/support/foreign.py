"""The peers that are not ours, whose programs are in tests/peers.

Node's ws is installed by `make peers`. Without it its tests are skipped, unless
SCRIPTLING_WS_PEERS=yes, where they fail.
"""

import importlib.util
import os
import shutil

import pytest

from places import TESTS
from processes import Process

PEERS = TESTS / "peers"
REQUIRED = os.environ.get("SCRIPTLING_WS_PEERS") == "yes"
NAMES = ["node-ws", "websockets"]


def missing(name):
    """Why a peer cannot be run here, or None."""
    if name == "websockets":
        found = importlib.util.find_spec("websockets")
        return None if found else "websockets is not installed: pip install --group test"
    if shutil.which("node") is None:
        return "there is no node"
    if not (PEERS / "node_modules" / "ws").is_dir():
        return "Node's ws is not installed: make peers"
    return None


def starter(name):
    """A function that starts the peer's program that is called "client" or "server"."""
    reason = missing(name)
    if reason is not None and not REQUIRED:
        pytest.skip(reason)
    assert reason is None, reason
    if name == "node-ws":
        return lambda role, *arguments: Process("node", PEERS / f"{role}.mjs", *arguments)
    return lambda role, *arguments: Process.python(PEERS / f"{role}.py", *arguments)
