"""What the transports under TLS share: the one that opens a session, and the one that gets one.

Rules:

- A message goes to OpenSSL a few records at a time: that bounds what it adds to the memory.
- Where decrypted bytes may not be looked at, a byte that begins no control frame stands for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ENOUGH", "NO_CONTROL", "SLICE", "Encrypted"]

SLICE: Final = 4 * 16_384
"""How many bytes are encrypted at a time: four records, which have 16 KiB each."""

ENOUGH: Final = 1024 * 1024
"""How many bytes one call of `read_into` goes on to receive and decrypt, about."""

NO_CONTROL: Final = b"\x00"
"""What `peek` shows in place of bytes that are not to be looked at: no control frame."""


class Encrypted(Transport):
    """A transport whose channel sends by `write`: no flags of a system call are of use there."""

    __slots__ = ()

    @property
    def send(self) -> Callable[[bytes, int], int]:
        """As `write`; flags are ignored."""
        return self._send_ignoring

    def peek_all(self, most: int) -> None:
        """None: what lies in records that have not come as a whole cannot be seen."""

    def _send_ignoring(self, data: bytes, _flags: int) -> int:
        return self.write(data)
