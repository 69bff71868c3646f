"""Runs one `sweep` command and counts what it does: `python audited.py OUT FOLDER ARGUMENT...`.

Python's audit events name every file that Python opens, every folder that it lists and every
process that it starts; a file that a C++ library opens by its own (pyarrow, HDF5) is not among
them. Written to OUT as JSON when the command ends, however it ends.
"""

import json
import os
import resource
import sys
from collections import Counter
from pathlib import Path

SLURM = ("squeue", "sacct", "scontrol", "sinfo", "sbatch", "scancel", "sacctmgr", "srun", "sdiag")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")


class Counts:
    """What was seen so far; the hook is called for every audit event of the interpreter."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.counts: Counter[str] = Counter()
        self.programs: list[str] = []
        self.changed: set[str] = set()

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in ("subprocess.Popen", "os.posix_spawn", "os.system", "os.fork", "os.exec"):
            self._process(event, arguments)
        elif event in ("os.listdir", "os.scandir") and self._ours(arguments[0]):
            self.counts["listed"] += 1
        elif event in CHANGES and any(self._ours(each) for each in arguments[:2]):
            self.changed.add(str(arguments[0]))
        elif event == "open" and self._ours(arguments[0]):
            mode, flags = arguments[1], arguments[2]
            words = isinstance(mode, str) and any(letter in mode for letter in "wax+")
            if words or (isinstance(flags, int) and flags & WRITES):
                self.changed.add(os.fsdecode(arguments[0]))  # type: ignore[arg-type]
            else:
                self.counts["read"] += 1

    def _process(self, event: str, arguments: tuple[object, ...]) -> None:
        self.counts["processes"] += 1
        program = Path(str(arguments[0])).name if event != "os.fork" else "fork"
        self.counts["slurm"] += program in SLURM
        self.programs.append(program)

    def _ours(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self._folder)  # noqa: PTH100


def main() -> None:
    out, folder = Path(sys.argv[1]), sys.argv[2]
    seen = Counts(folder)
    sys.argv = ["sweep", *sys.argv[3:]]
    from orchestrator.cli import main as command

    sys.addaudithook(seen.hook)
    code: object = 0
    try:
        code = command()
    except SystemExit as leave:
        code = leave.code
    finally:
        counts = dict(seen.counts)  # of the command, not of what follows
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        value = {
            **{name: counts.get(name, 0) for name in ("processes", "slurm", "read", "listed")},
            "written": len(seen.changed), "programs": seen.programs,
            "cpu_s": round(seconds, 2), "memory_mb": _most_memory_mb(), "code": code,
        }  # fmt: skip
        out.write_text(json.dumps(value))
    sys.exit(0)


def _most_memory_mb() -> int:
    """The most that this process held; `ru_maxrss` would count the parent's, from before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
