"""Installs the `bench` group of pyproject.toml one by one: a peer may be missing, and is named."""

import subprocess
import sys
from pathlib import Path

import tomllib

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]


def main() -> int:
    """Install what installs."""
    groups = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["dependency-groups"]
    for requirement in groups["bench"]:
        done = subprocess.run([*PIP, requirement], capture_output=True, check=False)
        if done.returncode:
            print(f"left out, because it does not install here: {requirement}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
