"""What the kernel is asked to reach, judged by the rows of kernel.run().

A row has a `table`, a `size`, and by name the `ns` of each statement and the `ratio` of
its time to ours, so that 2 means: ours is twice as fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .results import TIMES, Row
from .scenarios import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Rows = Sequence[Mapping[str, Any]]

MASKS = ("mask", "mask in place")
CODEC = ("encode pure", "decode pure", "encode masked, pure", "decode masked, pure")


@dataclass(frozen=True)
class Target:
    """`factor` times the speed of one statement, at every size that is meant."""

    subject: str
    tables: Sequence[str]
    against: str
    factor: float
    phrase: str
    least: int = 0  # sizes that are meant
    most: int = 1 << 62


TARGETS = (
    Target(
        "mask",
        MASKS,
        "memcpy",
        0.9,
        "memcpy, 4 KiB to 1 MiB",
        4 * KIB,
        MIB,
    ),
    Target("mask", MASKS, "websockets", 1.0, "websockets' masker, every size"),
    Target("mask", MASKS, "aiohttp", 1.0, "aiohttp's masker, every size"),
    Target("mask", MASKS, "picows", 1.0, "picows' masker, every size"),
    Target("mask", MASKS, "wsaccel", 1.0, "wsaccel's masker, every size"),
    Target(
        "list → bytes",
        ("list to bytes, compiled",),
        "bytes()",
        8.0,
        "bytes(list), 64 KiB",
        64 * KIB,
        64 * KIB,
    ),
    Target(
        "bytes → list",
        ("bytes to list, compiled",),
        "list()",
        3.0,
        "list(bytes), 64 KiB",
        64 * KIB,
        64 * KIB,
    ),
    Target("pure codec", CODEC, "wsproto", 1.0, "wsproto's frame code, every size"),
)


def judge(rows: Rows) -> list[Row]:
    return [_judge(target, rows) for target in TARGETS]


def _judge(target: Target, rows: Rows) -> Row:
    """By the size at which ours does worst."""
    text = f"≥ {target.factor:g} {TIMES} {target.phrase}"
    found = [
        (row["ratio"][target.against], f"{row['table']}, {size_name(row['size'])}")
        for row in rows
        if row["table"] in target.tables
        and target.least <= row["size"] <= target.most
        and target.against in row.get("ratio", {})
    ]
    if not found:
        return Row(target.subject, text, "skipped: not measured")
    worst, where = min(found)
    return Row(
        target.subject,
        text,
        f"{worst:.2f} ({where})",
        round(worst, 2) >= target.factor,
        worst,
        target.factor,
    )


def size_name(size: int) -> str:
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


def figures(rows: Rows) -> list[dict[str, str]]:
    """All rows: our nanoseconds, and how many times as long the others take."""
    return [
        {
            "kernel": row["table"],
            "size": size_name(row["size"]),
            "ns": f"{row['ns']['ours']:,.0f}",
            "others, in multiples of it": ", ".join(
                f"{name} {ratio:.2f}"
                for name, ratio in row.get("ratio", {}).items()
                if name != "ours"
            ),
        }
        for row in rows
    ]
