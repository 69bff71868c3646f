"""Eats the memory of a cgroup from inside until the kernel has killed something else of it.

`python -m tests.chaos.hog /sys/fs/cgroup/memory/…` moves into the cgroup and ends as soon as the
count of kills rose: code 0. Code 1: nothing was killed. Ray marks its workers as the kernel's first
choice, so that this process is rarely the one; then it ends by a signal, which is nothing either.
"""

import os
import sys
import time
from pathlib import Path

STEP_BYTES = 16 * 2**20
LIMIT_S = 30.0


def main(folder: Path) -> int:
    """Join the cgroup and eat."""
    before = _kills(folder)
    above = [each / "memory.limit_in_bytes" for each in (folder, *folder.parents[:3])]
    limit = min(int(path.read_text()) for path in above)  # that of the step, or of the job
    if limit > 2**36:
        return 1  # not limited: this would eat the machine
    (folder / "cgroup.procs").write_text(str(os.getpid()))
    held, until = [], time.monotonic() + LIMIT_S
    while time.monotonic() < until and len(held) * STEP_BYTES < limit:
        held.append(b"\1" * STEP_BYTES)
        if _kills(folder) > before:
            return 0
    return 1


def _kills(folder: Path) -> int:
    counts = (folder / "memory.oom_control").read_text().split()
    return int(counts[counts.index("oom_kill") + 1])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
