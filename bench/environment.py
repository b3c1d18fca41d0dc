"""What a result was measured with and on; no names of hosts, no paths."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import os
import platform
import ssl
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .adapters import LIBRARIES, OURS
from .costs import is_compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OTHERS = ("uvloop", "aiofastnet", "wsaccel", "wsproto", "h11")
"""Whose versions matter to the measured libraries."""
CLIENTS = (*(each.distribution for each in LIBRARIES.values() if each.distribution), *OTHERS)


def describe(distributions: Iterable[str] | None = None) -> dict[str, Any]:
    """What there is; `distributions` are those that matter, by default the client's peers."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "openssl": ssl.OPENSSL_VERSION,
        "versions": versions(CLIENTS if distributions is None else distributions),
        "implementation": "compiled" if is_compiled() else "pure",
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions(distributions: Iterable[str]) -> dict[str, str]:
    return {name: version(name) for name in distributions}


def version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        pass
    if distribution == OURS:
        with contextlib.suppress(ImportError):
            return str(importlib.import_module("scriptling_ws").__version__)
    return "not installed"


def sentence(found: Mapping[str, Any]) -> str:
    """The environment in one line, for tables and charts."""
    return (
        f"{found['date']}, {found['python']}, {found['system']}, "
        f"{found['cores']} cores of {found['processor']}"
    )
