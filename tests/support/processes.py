"""Child processes that are talked to in lines: every wait has a deadline, and all are reaped."""

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

DEADLINE = 60  # seconds, on a busy machine too


def python_environment(**more):
    """This process's environment, in which a child finds this very package."""
    import scriptling_ws

    source = str(Path(scriptling_ws.__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([source, inherited] if inherited else [source])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error", **more}


def is_alive(number):
    """Whether there is a process of that number, which somebody has still to wait for or not."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


class Process:
    """A child process. Its standard error is the test's own, and shown if the test fails.

    Unless it is given another: a file, or what `subprocess` takes.
    """

    def __init__(self, *command, cwd=None, env=None, stderr=None):
        command = [str(part) for part in command]
        self.name = " ".join(command)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",  # what is no text goes through as it is
            cwd=cwd,
            env=python_environment() if env is None else env,
        )
        self._lines = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="process-reader", daemon=True)
        self._reader.start()

    @classmethod
    def python(cls, *arguments, **options):
        """A child that runs this very interpreter."""
        return cls(sys.executable, *arguments, **options)

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, timeout=DEADLINE):
        """The next line of its standard output."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"{self.name} said nothing for {timeout} s") from None
        assert line is not None, f"{self.name} ended early, with status {self._process.wait(5)}"
        return line

    def line_with(self, text, timeout=DEADLINE):
        """The next line that has a text in it."""
        while text not in (line := self.line(timeout)):
            pass
        return line

    def report(self, timeout=DEADLINE):
        """The next line, which is JSON."""
        return json.loads(self.line(timeout))

    def tell(self, line):
        """Write a line to its standard input."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ask(self, **request):
        """Write a request as a line of JSON; the answer to it."""
        self.tell(json.dumps(request))
        answer = self.report()
        assert "error" not in answer, f"{self.name}: {answer['error']}"
        return answer

    def end_input(self):
        """End its standard input."""
        self._process.stdin.close()

    def finish(self, timeout=DEADLINE):
        """Wait for its end; the lines it had left to say, and its exit status."""
        status = self._process.wait(timeout)
        lines = []
        while (line := self._lines.get(timeout=timeout)) is not None:
            lines.append(line)
        return lines, status

    @property
    def pid(self):
        """Its number."""
        return self._process.pid

    def terminate(self):
        """Ask it to end."""
        self._process.terminate()

    def send_signal(self, number):
        """Send it a signal."""
        self._process.send_signal(number)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        """End it, by force if it has to be. No process, pipe or thread stays."""
        self._process.stdin.close()
        try:
            self._process.terminate()
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        finally:
            self._reader.join(5)
            self._process.stdout.close()
