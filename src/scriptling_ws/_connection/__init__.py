"""One open connection: its parts, and the public API over them.

`connection` builds it of a `reader`, a `writer`, a `closer` and a `pinger` over one `link`. What is
hard about threads is here.
"""
