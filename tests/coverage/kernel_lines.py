"""Counts the kernel's lines for `make coverage`: Cython's plugin, with answers from C alone.

Rules:

- Coverage asks its plugin for the file at each call, and for the number at each line. Where Python
  code answers, a signal's handler can run in it. What that raises is an error of the plugin then:
  coverage says so, and counts none of the kernel's lines in that process from there on, and the
  exception does not come to the code under test. So C functions answer here.
- The kernel is one file when it is measured: see the Makefile.
- Every process of the tests has it, whatever its path: `make coverage` puts this file beside
  coverage.
"""

from operator import attrgetter

from Cython.Coverage import Plugin


class KernelLines(Plugin):
    """Cython's, whose tracers answer in C."""

    def file_tracer(self, filename):
        """What is asked while a file runs; None if it is not the kernel's."""
        tracer = super().file_tracer(filename)
        if tracer is not None:
            # A text's `format` takes any arguments, and gives the text.
            name = tracer.module_file.replace("{", "{{").replace("}", "}}")
            tracer.dynamic_source_filename = name.format
            tracer.line_number_range = attrgetter("f_lineno", "f_lineno")
        return tracer


def coverage_init(registry, _options):
    """Called by coverage."""
    plugin = KernelLines()
    registry.add_configurer(plugin)
    registry.add_file_tracer(plugin)
