"""Builds, starts and stops the far end (far_end.c)."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import cores
from .compiler import CompileError, compiled

if TYPE_CHECKING:
    from types import TracebackType

SOURCE = Path(__file__).with_suffix(".c")


class FarEndError(RuntimeError):
    """The far end cannot be started."""


@dataclass(frozen=True)
class Address:
    """Where a far end listens, and what a client needs to trust and watch it."""

    port: int
    tls_port: int  # 0: it was built without TLS
    authority: str  # the PEM file of the authority that signed its certificate
    process: int
    choice: str  # of cores

    def url(self, path: str, *, tls: bool = False) -> str:
        """The URL of one of the far end's paths."""
        # The certificate names "localhost" as well, but a name would put a resolver
        # between the clock and the connection.
        scheme, port = ("wss", self.tls_port) if tls else ("ws", self.port)
        return f"{scheme}://127.0.0.1:{port}{path}"

    def cpu_time(self) -> float:
        """Seconds of processor time that the far end has used so far."""
        return cpu_time(self.process)


def cpu_time(process: int) -> float:
    """Seconds of processor time that a process has used so far."""
    # The clock of another process: clock_getcpuclockid(3) in arithmetic.
    return time.clock_gettime((~process << 3) | 2)


def build() -> tuple[Path, bool]:
    """Compile the far end, with TLS where OpenSSL's headers are; returns whether."""
    try:
        return compiled(SOURCE, ["-DFAR_END_TLS", "-lssl", "-lcrypto"], "-tls"), True
    except CompileError:
        return compiled(SOURCE), False


def make_certificate(directory: Path) -> tuple[Path, Path, Path] | None:
    """Files with an authority, a certificate and its key, or None without trustme."""
    try:
        import trustme
    except ImportError:
        return None
    files = directory / "authority.pem", directory / "certificate.pem", directory / "key.pem"
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(files[0]))
    certificate.cert_chain_pems[0].write_to_path(str(files[1]))
    certificate.private_key_pem.write_to_path(str(files[2]))
    return files


class FarEnd:
    """A running far end, and where its clients run; a context manager."""

    address: Address

    def __init__(self, choice: str = "free") -> None:
        """`choice` is one of cores.CHOICES."""
        self._choice = choice

    def __enter__(self) -> FarEnd:
        program, tls = build()
        self._directory = tempfile.TemporaryDirectory()
        files = make_certificate(Path(self._directory.name)) if tls else None
        command = [str(program), *map(str, files[1:] if files else ())]
        with cores.confined(cores.for_far_end(self._choice)):
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._process.stdout is not None
        ports = self._process.stdout.readline().split()
        if len(ports) != 2:
            raise FarEndError("the far end did not start")
        authority = str(files[0]) if files else ""
        self.address = Address(
            int(ports[0]), int(ports[1]), authority, self._process.pid, self._choice
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The end of its input is the far end's signal to go; it comes as well when
        # this process dies without getting here.
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._directory.cleanup()
