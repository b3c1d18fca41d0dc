"""What there is: shown where the command is called without arguments."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from typing import Final

from .. import _kernel as kernel
from .._version import __version__

__all__ = ["main"]

_FORMS: Final = {
    "scriptling-ws --server :8080 setup.py": "serve what a setup script registers",
    "scriptling-ws ws://127.0.0.1:8080/": "talk to a server, by hand or in a pipe",
    "scriptling-ws connect --help": "the same with its options",
    "scriptling-ws examples": "programs to start from; --run and --copy",
    "scriptling-ws demo": "the library's calls at work, and their speed",
    "scriptling-ws completion bash": "words for a shell, or zsh",
    "scriptling-ws --help": "all options of a server",
}
# What each extra brings, by a module of it.
_EXTRAS: Final = {
    "cli": "prompt_toolkit",
    "gevent": "gevent",
    "metrics": "prometheus_client",
    "redis": "redis",
    "socks": "socksio",
    "speed": "zlib_ng",
}
_CLIENT: Final = """\
A client:

    import scriptling_ws as ws

    with ws.connect("ws://127.0.0.1:8080/") as conn:
        conn.send("hello")
        print(conn.receive(timeout=5))

A server:

    import scriptling_ws as ws

    def echo(client):
        for message in client:
            client.send(message)

    ws.serve(echo, port=8080)
"""


def main() -> int:
    """Show it."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"scriptling-ws {__version__}, {kernel.IMPLEMENTATION} codec, {python}\n")
    width = max(map(len, _FORMS))
    for form, words in _FORMS.items():
        print(f"  {form:<{width}}  {words}")
    here = [name for name, module in _EXTRAS.items() if find_spec(module) is not None]
    away = [name for name in _EXTRAS if name not in here]
    print(f"\nExtras that are installed: {', '.join(here) or 'none'}.")
    if away:
        print(f"Others: {', '.join(away)}; pip install 'scriptling-ws[{away[0]}]'.")
    print(f"\n{_CLIENT}", end="")
    return 0
