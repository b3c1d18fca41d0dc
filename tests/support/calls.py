"""How much a function does, whatever the machine's clock says."""

import gc
import itertools
import sys


def count_calls(function):
    """How many calls a function makes in this thread, of Python's and of C's."""
    count = itertools.count()
    gc.disable()  # whose finalizers would be counted
    sys.setprofile(lambda frame, event, argument: event.endswith("call") and next(count))
    try:
        function()
    finally:
        sys.setprofile(None)
        gc.enable()
    return next(count)
