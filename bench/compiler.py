"""Compiles the benchmark's own C programs, each once for every state of its source."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRATCH = Path(__file__).parent.parent / "out" / "bench"


class CompileError(RuntimeError):
    """There is no compiler, or it refuses the program."""


def compiled(source: Path, flags: Sequence[str] = (), suffix: str = "") -> Path:
    """The program made of `source`; `suffix` tells apart what different flags make."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    tag = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    program = SCRATCH / f"{source.stem}-{tag}{suffix}"
    if program.exists():
        return program
    compiler = [*shlex.split(os.environ.get("CC", "cc")), "-std=c11", "-O3", "-pthread"]
    unfinished = program.with_suffix(f".{os.getpid()}")
    command = [*compiler, str(source), "-o", str(unfinished), *flags]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CompileError(f"no C compiler ({error}); name one in CC") from error
    if done.returncode:
        raise CompileError(f"{source.name} does not compile:\n{done.stderr}")
    unfinished.replace(program)
    return program
