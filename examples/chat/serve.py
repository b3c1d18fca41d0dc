# Start it with: python examples/chat/serve.py [--port PORT] [--redis URL] [--processes N]
"""The same chat with its options: several processes, or machines, meet at a Redis server."""

import argparse
import os
import sys
from pathlib import Path

from scriptling_ws.__main__ import main as scriptling_ws


def main():
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="serve.py", description="A chat to look at.")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="and the port (8080)")
    parser.add_argument("--redis", metavar="URL", help="such as redis://127.0.0.1:6379")
    parser.add_argument("--processes", type=int, metavar="N", help="how many; needs --redis")
    options = parser.parse_args()
    if options.processes is not None and options.redis is None:
        parser.error("several processes need --redis URL: by it they hear of each other")

    os.environ["CHAT_REDIS"] = options.redis or ""
    host = f"[{options.host}]" if ":" in options.host else options.host
    command = ["--server", f"{host}:{options.port}"]
    if options.processes is not None:
        command += ["--processes", str(options.processes)]
    if options.port:
        shown = "localhost" if host in ("", "0.0.0.0", "[::]") else host
        print(f"open http://{shown}:{options.port}/ in two browser windows", flush=True)
    sys.exit(scriptling_ws([*command, str(Path(__file__).with_name("setup.py"))]))


if __name__ == "__main__":
    main()
