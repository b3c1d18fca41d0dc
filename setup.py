"""What pyproject.toml cannot say: the kernel, the examples, and the links on PyPI.

SCRIPTLING_WS_EXTENSION decides of the kernel (default: auto).
  auto  compile the kernel; where that fails, install without it.
  yes   compile the kernel; where that fails, fail.
  no    do not compile: the wheel is pure Python, py3-none-any.

SCRIPTLING_WS_REPOSITORY is where the repository is on the web: the links of the package's page on
PyPI lead there. The workflow of the wheels sets it; without it that page has no links to files.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from setuptools import Command, Extension, setup
from setuptools.command.build import build

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
            depends=sorted(path.as_posix() for path in Path("src/_wsframe").iterdir()),
            optional=choice == "auto",
        )
    )


class BuildExamples(Command):
    """Take examples/ into the package, as `scriptling_ws/_examples`, which the command shows.

    In the repository they are where one looks for them, and nowhere else: an editable installation
    has no copy, and takes them from there.
    """

    user_options = [("build-lib=", "d", "the directory to build in")]  # noqa: RUF012 - as setuptools

    def initialize_options(self):
        self.build_lib = None
        self.editable_mode = False

    def finalize_options(self):
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self):
        shutil.rmtree(Path(self.build_lib, "scriptling_ws", "_examples"), ignore_errors=True)
        for target, source in self.get_output_mapping().items():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def get_source_files(self):
        return [
            path.as_posix()
            for path in sorted(Path("examples").rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        ]

    def get_outputs(self):
        return list(self.get_output_mapping())

    def get_output_mapping(self):
        if self.editable_mode:
            return {}
        home = Path(self.build_lib, "scriptling_ws", "_examples")
        return {
            str(home / Path(source).relative_to("examples")): source
            for source in self.get_source_files()
        }


class Build(build):
    """All that `build` does, and the examples."""

    sub_commands = [*build.sub_commands, ("build_examples", None)]  # noqa: RUF012 - as setuptools


repository = os.environ.get("SCRIPTLING_WS_REPOSITORY", "").rstrip("/")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")


def release():
    """The tag of this version."""
    text = Path("src/scriptling_ws/_version.py").read_text(encoding="utf-8")
    return f"v{re.search('__version__ = .(.+).$', text, re.MULTILINE)[1]}"


def absolute(link):
    """A link of the README to a file, as PyPI needs it: to the file as it was released.

    Where the repository's address is not known, a link is its text, and a picture is left out.
    """
    image, text, target = link.groups()
    if not repository:
        return "" if image else text
    return f"{image}[{text}]({repository}/{'raw' if image else 'blob'}/{release()}/{target})"


def pages():
    """What the package's page on PyPI links at its side."""
    if not repository:
        return {}
    return {
        "Repository": repository,
        "Documentation": f"{repository}/blob/{release()}/docs/index.md",
        "Changelog": f"{repository}/blob/{release()}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


setup(
    ext_modules=extensions,
    cmdclass={"build": Build, "build_examples": BuildExamples},
    long_description=LINK.sub(absolute, Path("README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    project_urls=pages(),
)
