"""With this folder on its path a Python program begins as one that gevent has patched."""

from gevent import monkey

monkey.patch_all()
