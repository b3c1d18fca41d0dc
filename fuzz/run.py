"""Run every fuzz target for its share of the time: `python fuzz/run.py --seconds 600`.

Each target runs as a process of its own under atheris, from the seeds in fuzz/corpus and from
what earlier runs have found (out/fuzz/corpus). With --random no atheris is needed: seeds
are changed blindly, in this process, which is much faster and sees less: for interpreters
that atheris does not know, and for a kernel that is built with sanitizers.

Prints the executions of each target. An input that fails a check is in out/fuzz/crashes; the
exit status is 1 then.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import random
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parent / "out" / "fuzz"
TARGETS = tuple(sorted(folder.name for folder in (HERE / "corpus").iterdir()))
_STUCK = 120  # seconds for a hundred inputs, after which one of them hangs
LONGEST = 1024  # bytes of an input: what is large is made from few bytes, see Source.payload
_DONE = re.compile(r"stat::number_of_executed_units: (\d+)")


def guided(target: str, seconds: int) -> tuple[int, bool]:
    """Run a target under atheris: how often it was executed, and whether it held."""
    found, crashes = OUT / "corpus" / target, OUT / "crashes" / target
    for folder in (found, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, str(HERE / f"{target}.py"), str(found), str(HERE / "corpus" / target)),
        *(f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=20"),
        *("-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={crashes}/"),
    ]
    log = OUT / f"{target}.log"
    with log.open("wb") as output:
        status = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, timeout=seconds + 120, check=False
        ).returncode
    text = log.read_text(encoding="utf-8", errors="replace")
    counted = _DONE.search(text)
    if status or counted is None:
        print(text[-3000:])
    return int(counted[1]) if counted else 0, not status


def blind(target: str, seconds: int, seed: int) -> tuple[int, bool]:
    """Run a target on changed seeds: how often it was executed, and whether it held."""
    check = importlib.import_module(target).check
    choose = random.Random(f"{target} {seed}")
    seeds = [path.read_bytes() for path in sorted((HERE / "corpus" / target).iterdir())]
    end = time.monotonic() + seconds
    count = 0
    try:
        while time.monotonic() < end:
            faulthandler.dump_traceback_later(_STUCK, exit=True)
            for _ in range(100):
                data = changed(choose.choice(seeds), seeds, choose)
                count += 1
                check(data)
    except Exception:
        traceback.print_exc()
        folder = OUT / "crashes" / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"random-{seed}-{count}").write_bytes(data)
        return count, False
    finally:
        faulthandler.cancel_dump_traceback_later()
    return count, True


def changed(data: bytes, seeds: list[bytes], choose: random.Random) -> bytes:
    """An input somewhat unlike a seed."""
    made = bytearray(data)
    for _ in range(1 + int(choose.expovariate(0.5))):
        at = choose.randrange(len(made) + 1)
        how = choose.randrange(6)
        if how == 0:
            made[at:at] = choose.randbytes(choose.choice((1, 1, 2, 8, 40)))
        elif how == 1:
            del made[at : at + choose.choice((1, 1, 2, 8, 40))]
        elif how == 2:
            other = choose.choice(seeds)
            start = choose.randrange(len(other) + 1)
            made[at:at] = other[start : start + choose.randrange(1, 80)]
        elif at < len(made):
            if how == 3:
                made[at] ^= 1 << choose.randrange(8)
            else:
                made[at] = choose.choice((0, 1, 127, 128, 254, 255, choose.randrange(256)))
    return bytes(made[:LONGEST])


def main() -> int:
    """Run, and say how often."""
    parser = argparse.ArgumentParser(prog="python fuzz/run.py", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--random", action="store_true", help="without atheris")
    parser.add_argument("--seed", type=int, default=0, help="for --random")
    options = parser.parse_args()
    targets = options.targets or TARGETS
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    share = max(options.seconds // len(targets), 1)
    total, held = 0, True
    for target in targets:
        start = time.monotonic()
        if options.random:
            count, good = blind(target, share, options.seed)
        else:
            count, good = guided(target, share)
        took = time.monotonic() - start
        total, held = total + count, held and good
        verdict = "" if good else f"  FAILED: see {OUT / 'crashes' / target}"
        print(f"{target:<18} {count:>10,} executions in {took:5.1f} s{verdict}", flush=True)
    print(f"{'all':<18} {total:>10,} executions")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
