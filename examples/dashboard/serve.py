# Start it with: python examples/dashboard/serve.py [--port PORT] [--cert FILE --key FILE]
"""A dashboard behind nginx, with TLS and under a prefix: https://localhost:8443/dashboard/.

It starts nginx with `nginx.conf` in front of a server on a free port of the loopback, and ends both
with Ctrl-C. Without --cert a certificate is made for the occasion, by openssl, which browsers warn
of. The token for the control is $DASHBOARD_TOKEN, or a new one, and in the address that is printed:
behind the #, which browsers send to nobody.
"""

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from oven import Dashboard

import scriptling_ws as ws

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def main():
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="serve.py", description="A dashboard behind nginx.")
    parser.add_argument("--address", default="127.0.0.1", help="where nginx listens (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8443, help="and its port (8443)")
    parser.add_argument("--name", default="localhost", help="as browsers call it (localhost)")
    parser.add_argument("--cert", type=Path, metavar="FILE", help="a certificate for the name")
    parser.add_argument("--key", type=Path, metavar="FILE", help="and its key")
    options = parser.parse_args()
    if (options.cert is None) != (options.key is None):
        parser.error("--cert and --key belong together")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    token = os.environ.get("DASHBOARD_TOKEN") or secrets.token_urlsafe(24)
    try:
        dashboard = Dashboard(token)
    except ValueError as error:
        parser.error(f"DASHBOARD_TOKEN: {error}")
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory() as folder,
        dashboard,
        server(dashboard, options.name) as backend,
        nginx(Path(folder), options, backend) as proxy,
    ):
        print(f"https://{options.name}:{options.port}/dashboard/#token={token}", flush=True)
        sys.exit(f"nginx has ended, with status {proxy.wait()}")


def server(dashboard, name):
    """The server, which nginx alone is to reach."""
    routes = ws.Routes()
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    routes.static("/", HERE / "static", headers=headers)
    routes.websocket("/live", dashboard.live, max_message_size=1024)
    routes.websocket(
        "/control", dashboard.control, max_message_size=1024, authorize=dashboard.may_control
    )
    routes.post("/unlock", dashboard.unlock, authorize=dashboard.has_token)
    routes.post("/lock", dashboard.lock)
    return ws.Server(
        routes=routes, port=0, allowed_hosts=[name, "127.0.0.1"], trusted_proxies=["127.0.0.1"]
    )


@contextlib.contextmanager
def nginx(folder, options, backend):
    """An nginx that is ready; it is ended in any case."""
    # Debian has it in a directory that is not on every user's PATH.
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin")
    if program is None:
        sys.exit("nginx is not installed: as root on a Debian, apt install nginx")
    try:
        socket.create_server((options.address, options.port)).close()
    except OSError as error:
        sys.exit(f"{options.address}:{options.port} is not free: {error.strerror}; give --port")
    if options.cert is None:
        options.cert, options.key = certificate(folder, options.name)
    words = {
        "DIRECTORY": folder,
        "LISTEN": f"{options.address}:{options.port}",
        "BACKEND": f"127.0.0.1:{backend.port}",
        "CERTIFICATE": options.cert.resolve(),
        "KEY": options.key.resolve(),
        "NAME": options.name,
        # The folder is this user's alone, and root's nginx would work as somebody else.
        "USER": "user root;" if os.geteuid() == 0 else "",
    }
    text = (HERE / "nginx.conf").read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(word, str(value))
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    command = [program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command) as process:
        try:
            wait_until_ready(process, options.address, options.port)
            yield process
        finally:
            process.terminate()


def wait_until_ready(process, address, port):
    """Wait until it takes connections; what is wrong otherwise, it has said itself."""
    while True:
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError), socket.create_connection((address, port), 5):
                return
        else:
            sys.exit("nginx has not started")


def certificate(folder, name):
    """A certificate that nobody vouches for, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "30", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1", "-keyout", key, "-out", cert]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        sys.exit("openssl is not installed: give a certificate with --cert and --key")
    except subprocess.CalledProcessError as error:
        sys.exit(f"openssl makes no certificate: {error.stderr.decode(errors='replace')}")
    return cert, key


if __name__ == "__main__":
    main()
