"""`make architectures`: the kernel and its tests on other processors, under QEMU's user mode.

Rules:

- The processors differ in what C leaves open: see PROCESSORS.
- What runs is the real thing: Debian's CPython for the processor, the extension that a wheel
  would have, built by Debian's cross compiler, and tests/wire/test_kernel*.py on both kernels.
- Every processor has the tests twice. The second build traps on undefined behaviour, accesses
  that are not aligned among it: QEMU itself lets those pass, as most processors do.
- Nothing is installed. The packages that the machine lacks are unpacked in out/architectures,
  once; they come through apt from where the machine's own come from, in lists and caches of
  this script's own, so that no root is needed. Compilers and QEMU are of the machine's release;
  Python is of the release that SUITE names.
- What is missing ends the run, by name.
"""

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import tomllib

REPOSITORY = Path(__file__).resolve().parent.parent.parent
OUT = REPOSITORY / "out" / "architectures"
TOOLS, SITE, CYTHON = OUT / "tools", OUT / "site", OUT / "cython"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
STATUS = Path("/var/lib/dpkg/status")
SUITE = os.environ.get("SUITE", "trixie")
# Left out: QEMU does not hold a process to RLIMIT_AS.
TESTS = "not no_memory_is_there"
UNDEFINED = "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"


class Processor(NamedTuple):
    debian: str
    triple: str
    qemu: str
    model: str
    what: str

    @property
    def root(self):
        return OUT / self.debian

    @property
    def python(self):
        return self.root / "usr" / "bin" / "python"

    def package(self, own):
        """The package of its compiler, on a machine of that architecture."""
        return "gcc" if self.debian == own else f"gcc-{self.triple.replace('_', '-')}"


PROCESSORS = {
    # The wheels' other one. A model that does not sign pointers: QEMU takes most of its time
    # for that, where Debian's Python does it.
    "aarch64": Processor("arm64", "aarch64-linux-gnu", "qemu-aarch64", "cortex-a72", "NEON"),
    "armhf": Processor("armhf", "arm-linux-gnueabihf", "qemu-arm", "max", "32 bits"),
    "s390x": Processor("s390x", "s390x-linux-gnu", "qemu-s390x", "max", "big-endian"),
    # The loops that are chosen where the machine's own tests choose AVX2.
    "x86_64": Processor("amd64", "x86_64-linux-gnu", "qemu-x86_64", "Nehalem", "without AVX2"),
}


def run(*command, **settings):
    """Run a command to its end, with these environment variables; it has to succeed."""
    command = [str(part) for part in command]
    print("$", shlex.join(command), flush=True)
    done = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **settings}, check=False)
    if done.returncode:
        sys.exit(f"architectures: {Path(command[0]).name} failed")


def ask(*command, **settings):
    """What a command prints."""
    environment = {**os.environ, **settings}
    command = [str(part) for part in command]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


# ---- packages ----


def stanza(suite):
    """The machine's package source, for another release."""
    first = SOURCES.read_text(encoding="utf-8").split("\n\n")[0]
    lines = [line for line in first.splitlines() if not line.startswith("Architectures:")]
    return "\n".join(re.sub("^Suites:.*", f"Suites: {suite}", line) for line in lines) + "\n"


def unpack(root, suite, architecture, installed, packages):
    """Unpack packages and what they need, beyond what is installed, in a directory."""
    done = root / "unpacked"
    if done.exists() and done.read_text(encoding="utf-8") == f"{suite} {packages}":
        return
    shutil.rmtree(root, ignore_errors=True)
    apt = root / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "debian.sources").write_text(stanza(suite), encoding="utf-8")
    (apt / "status").write_text(installed, encoding="utf-8")
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": ask("id", "--user", "--name"),
        "APT::Update::Error-Mode": "any",
        "Dir::Etc::SourceList": apt / "debian.sources",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
    }
    command = ["apt-get", "--quiet", "--quiet"]
    command += [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    run(*command, "update")
    run(*command, "--yes", "--download-only", "install", *packages)
    for folder in ("bin", "lib", "lib64", "sbin"):  # as every Debian has them
        (root / "usr" / folder).mkdir(parents=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for package in sorted((apt / "archives").glob("*.deb")):
        ask("dpkg-deb", "--extract", package, root)
    shutil.rmtree(apt)
    done.write_text(f"{suite} {packages}", encoding="utf-8")


def tool(*names):
    """Where a program is: the machine's own, or an unpacked one."""
    path = f"{os.environ['PATH']}{os.pathsep}{TOOLS / 'usr' / 'bin'}"
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    return sys.exit(f"architectures: there is no {names[0]}")


def compiler(processor):
    """The cross compiler, and the environment it runs in: its assembler has libraries."""
    libraries = TOOLS / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    return tool(f"{processor.triple}-gcc"), {"LD_LIBRARY_PATH": str(libraries)}


def emulate(processor):
    """Write the program that is this processor's Python.

    It lies beside the real one, by whose name Python finds its library; sys.executable is
    this program, for tests that start another Python.
    """
    qemu = tool(f"{processor.qemu}-static", processor.qemu)
    root, real = processor.root, processor.python.with_name("python3")
    text = f'#!/bin/sh\nexec {qemu} -cpu {processor.model} -L {root} -0 "$0" {real} "$@"\n'
    processor.python.write_text(text, encoding="utf-8")
    processor.python.chmod(0o755)


def introduce(processor):
    """Print what the tests run on."""
    gcc, environment = compiler(processor)
    qemu = shlex.split(processor.python.read_text(encoding="utf-8").splitlines()[1])[1]
    versions = [
        ask(qemu, "--version"),
        ask(gcc, "--version", **environment),
        ask(processor.python, "--version"),
    ]
    print(processor.debian, processor.what, *(text.splitlines()[0] for text in versions), sep="; ")


# ---- the kernel ----


def install(python):
    """The package without a kernel, and what its tests need, none of it compiled.

    And the kernel's C, which is the same for all.
    """
    version = ask(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    pip = sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"
    shutil.rmtree(SITE, ignore_errors=True)
    config = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    groups = config["dependency-groups"]
    tests = [name for name in groups["test-base"] if str(name).startswith("hypothesis")]
    pure = "--platform", "any", "--implementation", "py", "--abi", "none"
    run(
        *(*pip, "--target", SITE, "--only-binary", ":all:", *pure, "--python-version", version),
        *("--group", "test-wheel", *tests, "."),
        SCRIPTLING_WS_EXTENSION="no",
    )
    run(*pip, "--target", CYTHON, "--upgrade", *config["build-system"]["requires"])
    source = REPOSITORY / "src" / "_wsframe.pyx"
    run(*(sys.executable, "-m", "cython", source, "-o", OUT / "_wsframe.c"), PYTHONPATH=str(CYTHON))


def build(processor, *extra):
    """Build the kernel as setup.py on that processor would, with some options more.

    At -O3, as the Pythons that wheels are built with say, where Debian's says -O2: the lists'
    loops have vectors then.
    """
    gcc, environment = compiler(processor)
    names = "'EXT_SUFFIX', 'CFLAGS', 'INCLUDEPY'"
    code = f"import sysconfig; print(*sysconfig.get_config_vars({names}), sep='\\n')"
    suffix, flags, headers = ask(processor.python, "-c", code).splitlines()
    library = SITE / "scriptling_ws" / f"_wsframe{suffix}"
    headers = processor.root / "usr" / "include" / Path(headers).name
    run(
        *(gcc, f"--sysroot={processor.root}", *shlex.split(flags), "-O3", *extra),
        *("-shared", "-fPIC", f"-I{headers}", f"-I{REPOSITORY / 'src'}"),
        *(OUT / "_wsframe.c", "-o", library),
        **environment,
    )


def test(processor, chosen):
    """Run the kernel's tests on that processor."""
    folder = REPOSITORY / "tests" / "wire"
    tests = sorted([*folder.glob("test_kernel*.py"), *folder.glob("test_channel*.py")])
    run(
        *(processor.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *tests),
        PYTHONPATH=str(SITE),
        PYTHONPYCACHEPREFIX=str(OUT / "pycache"),
        SCRIPTLING_WS_EXTENSION="yes",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=PROCESSORS, help="this processor alone")
    only = parser.parse_args().only
    chosen = [PROCESSORS[only]] if only else list(PROCESSORS.values())
    for program in ("apt-get", "dpkg-deb"):
        tool(program)
    if not SOURCES.exists():
        sys.exit(f"architectures: there is no {SOURCES}, which tells where packages come from")
    own = ask("dpkg", "--print-architecture")
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    tools = ["qemu-user-static", *(processor.package(own) for processor in PROCESSORS.values())]
    unpack(TOOLS, release, own, STATUS.read_text(encoding="utf-8"), tools)
    for processor in chosen:
        unpack(processor.root, SUITE, processor.debian, "", ["python3", "libpython3-dev"])
        emulate(processor)
    install(chosen[0].python)
    for processor in chosen:
        introduce(processor)
        build(processor)
        test(processor, TESTS)
        build(processor, *UNDEFINED)
        test(processor, f"{TESTS} and not pure")


if __name__ == "__main__":
    main()
