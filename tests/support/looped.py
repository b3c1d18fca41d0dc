"""Many cases of one call in one test, where each is a matter of microseconds.

A test of its own costs every worker of a run its collection, and the run some reports: together
some milliseconds. So `pytest.mark.parametrize` is for cases that have a mark of their own, or need
fixtures of their own. The others are looped over.
"""

import functools
import inspect
import reprlib


def looped(names, cases):
    """Have a test run through cases, which are given as to `pytest.mark.parametrize`.

    A case that fails ends the test, whose output names it.
    """
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    cases = [case if len(names) > 1 else (case,) for case in cases]
    assert cases, "there are no cases"

    def decorated(function):
        @functools.wraps(function)
        def test(**given):
            for case in cases:
                values = dict(zip(names, case, strict=True))
                try:
                    function(**given, **values)
                except BaseException:
                    print(f"the case that fails: {reprlib.repr(values)}")
                    raise

        signature = inspect.signature(function)
        left = [value for name, value in signature.parameters.items() if name not in names]
        test.__signature__ = signature.replace(parameters=left)
        return test

    return decorated
