"""The chooser: the compiled kernel where it was built, the pure one otherwise.

SCRIPTLING_WS_PURE=1 in the environment asks for the pure one. IMPLEMENTATION
names the one in use; what the functions do is in _wsframe.pyi.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import _wsframe as _kernel
elif os.environ.get("SCRIPTLING_WS_PURE") == "1":
    from . import _wsframe_py as _kernel
else:
    try:
        from . import _wsframe as _kernel
    except ImportError:
        from . import _wsframe_py as _kernel

__all__ = [
    "BAD_TEXT",
    "FULL",
    "IMPLEMENTATION",
    "MORE",
    "SPECIAL",
    "allocate",
    "apply_mask",
    "bytes_to_list",
    "encode_frame",
    "encode_header",
    "list_to_bytes",
    "mask_in_place",
    "parse_header",
    "read_fragments",
    "read_messages",
    "read_payload",
    "receive_messages",
    "seal_room",
    "send_frame",
]

IMPLEMENTATION = _kernel.IMPLEMENTATION
MORE = _kernel.MORE
SPECIAL = _kernel.SPECIAL
BAD_TEXT = _kernel.BAD_TEXT
FULL = _kernel.FULL
allocate = _kernel.allocate
apply_mask = _kernel.apply_mask
bytes_to_list = _kernel.bytes_to_list
encode_frame = _kernel.encode_frame
encode_header = _kernel.encode_header
list_to_bytes = _kernel.list_to_bytes
mask_in_place = _kernel.mask_in_place
parse_header = _kernel.parse_header
read_fragments = _kernel.read_fragments
read_messages = _kernel.read_messages
read_payload = _kernel.read_payload
receive_messages = _kernel.receive_messages
seal_room = _kernel.seal_room
send_frame = _kernel.send_frame
