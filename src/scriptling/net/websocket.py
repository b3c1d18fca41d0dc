"""`import scriptling.net.websocket as ws`: the older name of scriptling.websocket."""

from scriptling_ws import *  # noqa: F403  # the whole public surface, as its __all__ names it
from scriptling_ws import __all__ as __all__
