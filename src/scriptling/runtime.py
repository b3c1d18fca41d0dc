"""`import scriptling.runtime as runtime`: the API page's name for scriptling_ws.runtime."""

from scriptling_ws.runtime import *  # noqa: F403  # the whole public surface, as its __all__ names it
from scriptling_ws.runtime import __all__ as __all__
