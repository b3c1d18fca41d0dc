"""What CPython can tell about its memory. PyPy cannot: the tests that ask are skipped there."""

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


# A free-threaded CPython has it, PyPy does not, as it counts no references.
counts_references = pytest.mark.skipif(
    not hasattr(sys, "getrefcount"), reason="there are no reference counts"
)
