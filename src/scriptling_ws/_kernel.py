"""The chooser: the compiled kernel where it was built, the pure one otherwise.

SCRIPTLING_WS_PURE=1 in the environment asks for the pure one. IMPLEMENTATION
names the one in use; what is in it is described in _wsframe.pyi.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import _wsframe as _channel
    from . import _wsframe as _codec
    from . import _wsframe as _tls
elif os.environ.get("SCRIPTLING_WS_PURE") == "1":
    from . import _wschannel_py as _channel
    from . import _wsframe_py as _codec
    from . import _wstls_py as _tls
else:
    try:
        from . import _wsframe as _codec

        _channel = _tls = _codec
    except ImportError:
        from . import _wschannel_py as _channel
        from . import _wsframe_py as _codec
        from . import _wstls_py as _tls

__all__ = [
    "BAD_TEXT",
    "FULL",
    "IMPLEMENTATION",
    "MORE",
    "SPECIAL",
    "Channel",
    "Descriptor",
    "Iteration",
    "Lock",
    "Place",
    "RLock",
    "Session",
    "Shortcuts",
    "Window",
    "allocate",
    "apply_mask",
    "bytes_to_list",
    "check_utf8",
    "descriptor_of",
    "encode_frame",
    "encode_header",
    "forget_locals",
    "last_resumed",
    "list_to_bytes",
    "mask_in_place",
    "mask_into",
    "next_key",
    "on_kept_stack",
    "open_gate",
    "parse_header",
    "read_fragments",
    "read_messages",
    "read_payload",
    "receive_messages",
    "receive_on",
    "seal_room",
    "send_frame",
    "share",
    "shortcut",
    "spin_for",
    "split_request",
    "use_gate_from",
]

BAD_TEXT = _codec.BAD_TEXT
FULL = _codec.FULL
IMPLEMENTATION = _codec.IMPLEMENTATION
MORE = _codec.MORE
SPECIAL = _codec.SPECIAL
Channel = _channel.Channel
Descriptor = _channel.Descriptor
Iteration = _channel.Iteration
Lock = _channel.Lock
Place = _channel.Place
RLock = _channel.RLock
Session = _tls.Session
Shortcuts = _channel.Shortcuts
Window = _channel.Window
allocate = _codec.allocate
apply_mask = _codec.apply_mask
bytes_to_list = _codec.bytes_to_list
check_utf8 = _codec.check_utf8
descriptor_of = _channel.descriptor_of
encode_frame = _codec.encode_frame
encode_header = _codec.encode_header
forget_locals = _channel.forget_locals
last_resumed = _channel.last_resumed
list_to_bytes = _codec.list_to_bytes
mask_in_place = _codec.mask_in_place
mask_into = _codec.mask_into
next_key = _channel.next_key
on_kept_stack = _channel.on_kept_stack
open_gate = _channel.open_gate
parse_header = _codec.parse_header
read_fragments = _codec.read_fragments
read_messages = _codec.read_messages
read_payload = _codec.read_payload
receive_messages = _codec.receive_messages
receive_on = _channel.receive_on
seal_room = _codec.seal_room
send_frame = _codec.send_frame
share = _channel.share
shortcut = _channel.shortcut
spin_for = _channel.spin_for
split_request = _codec.split_request
use_gate_from = _channel.use_gate_from
