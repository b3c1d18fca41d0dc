"""Lists of ints to bytes and back: both kernels alike, and no code of the caller's runs.

Exactly the ints from 0 to 255 are bytes (invariant 4); an error names the first that is not.
"""

from __future__ import annotations

from typing import Any

from harness import STRANGE, Source, fuzz, kernels, outcome, plain

KERNELS = kernels()
SIZES = (15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 300)


class Hostile(list):  # type: ignore[type-arg]
    """A list whose methods lie, and break things if they are asked."""

    def __len__(self) -> int:
        self.append(7)
        return 1000

    def __iter__(self) -> Any:
        self.clear()
        return iter([1.5])

    def __getitem__(self, index: Any) -> Any:
        self.clear()
        return 3


class HostileTuple(tuple):  # type: ignore[type-arg]
    """The same of a tuple."""

    __slots__ = ()

    def __len__(self) -> int:
        return 1000

    def __iter__(self) -> Any:
        raise AssertionError("__iter__ was called")

    __getitem__ = __iter__  # type: ignore[assignment]


def check(data: bytes) -> None:
    """One list each way, in both kernels."""
    source = Source(data)
    how, strange, at = source.byte(), source.byte(), source.number()
    payload = source.payload(SIZES)
    values: list[Any] = list(payload)
    if how & 0x0C == 0x0C:
        item = STRANGE[strange % len(STRANGE)]
        values.insert(at % (len(values) + 1), item)
    made: Any = (list, tuple, Hostile, HostileTuple)[how & 3](values)
    results = [outcome(kernel.list_to_bytes, made) for kernel in KERNELS]
    assert results.count(results[0]) == len(results), results
    legal = len(values) == len(payload) or (type(item) is not bool and 0 <= plain(item) <= 255)
    assert (results[0][0] is bytes) == legal, results[0]
    if len(values) == len(payload):
        assert results[0][1] == payload
        for kernel in KERNELS:
            assert kernel.bytes_to_list(payload) == values
            assert kernel.bytes_to_list(memoryview(bytearray(payload))) == values
    elif not legal:
        assert str(results[0][1]).startswith(f"item {at % len(values)} is ")


if __name__ == "__main__":
    fuzz(check)
