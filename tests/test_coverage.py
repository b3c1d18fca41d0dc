"""That C functions alone count the kernel's lines: it runs where `make coverage` measures."""

import inspect
import sys

import pytest

from places import REPOSITORY

pytestmark = pytest.mark.once

KERNEL = REPOSITORY / "src" / "_wsframe.pyx"


def test_a_signals_handler_cannot_run_where_lines_are_counted():
    pytest.importorskip("Cython.Coverage", reason="only where `make coverage` measures")
    if not KERNEL.with_suffix(".c").exists():
        pytest.skip("only where `make coverage` measures")
    tracer = pytest.importorskip("kernel_lines").KernelLines().file_tracer(str(KERNEL))
    file, line = tracer.dynamic_source_filename, tracer.line_number_range
    assert not any(inspect.isfunction(each) or inspect.ismethod(each) for each in (file, line))
    frame = sys._getframe()
    assert file("any", frame) == str(KERNEL)
    number = frame.f_lineno + 1
    assert line(frame) == (number, number)
