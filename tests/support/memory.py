"""What tests ask of CPython and PyPy does not have: they are skipped there, with the reason."""

import sys

import pytest

try:
    import tracemalloc
except ImportError:  # PyPy has the module without what it stands on

    class tracemalloc:  # type: ignore[no-redef]
        """Skips the test where it starts to measure."""

        @staticmethod
        def start():
            pytest.skip("there is no tracemalloc")

        @staticmethod
        def stop():
            """There is nothing to stop."""

        @staticmethod
        def get_traced_memory():
            """What CPython's says as well where nothing is traced."""
            return 0, 0


# A free-threaded CPython has it, PyPy does not, as it counts no references.
counts_references = pytest.mark.skipif(
    not hasattr(sys, "getrefcount"), reason="there are no reference counts"
)

# PyPy may run a handler after a call and before its result is stored, or in a finalizer, where
# what the handler raises is only printed.
cpython_handlers = pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="signal handlers run at other moments"
)
