"""The one thing pyproject.toml cannot say: whether the kernel is compiled.

SCRIPTLING_WS_EXTENSION decides (default: auto).
  auto  compile the kernel; where that fails, install without it.
  yes   compile the kernel; where that fails, fail.
  no    do not compile: the wheel is pure Python, py3-none-any.
"""

import os
import sys

from setuptools import Extension, setup

choice = os.environ.get("SCRIPTLING_WS_EXTENSION", "auto")
if choice not in ("auto", "yes", "no"):
    sys.exit(f"SCRIPTLING_WS_EXTENSION is {choice!r}: it has to be auto, yes or no")

# A JIT runs the pure codec faster than it crosses into a C extension.
interpreted = sys.implementation.name == "cpython"
extensions = []
if choice == "yes" or (choice == "auto" and interpreted):
    # The .pyx is named here, not passed through cythonize(): that one makes
    # new Extension objects and drops `optional` on the way.
    extensions.append(
        Extension(
            "scriptling_ws._wsframe",
            ["src/_wsframe.pyx"],
            depends=[
                "src/_wschannel.pxi",
                "src/_wssystem.pxi",
                "src/_wswindow.pxi",
                "src/_wstls.pxi",
                "src/_wsparking.pxi",
                "src/_wsframe.h",
                "src/_wsgate.h",
                "src/_wsio.h",
            ],
            optional=choice == "auto",
        )
    )

setup(ext_modules=extensions)
