"""`import scriptling.websocket as ws`: the API page's name for scriptling_ws."""

from scriptling_ws import *  # noqa: F403  # the whole public surface, as its __all__ names it
from scriptling_ws import __all__ as __all__
