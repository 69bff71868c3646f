"""The texts that a profile may hold: nothing in them starts a second line of a batch script.

submitit quotes what it writes after `#SBATCH`, but sbatch reads line by line.
"""

import re
from typing import Annotated

from pydantic import AfterValidator

# sbatch options that are fields of the profile, by option.
FIELDS = {
    "account": "account", "constraint": "constraint", "cpus-per-task": "cpus",
    "exclude": "exclude", "gpus": "gpus and gpu_type", "gpus-per-node": "gpus and gpu_type",
    "mem": "memory_gb", "mem-per-cpu": "memory_gb", "mem-per-gpu": "memory_gb",
    "partition": "partition", "qos": "qos", "signal": "signal_s", "time": "walltime_min",
}  # fmt: skip
# sbatch options that the driver or submitit set, or that would break them.
RESERVED = frozenset(
    {
        "array", "comment", "error", "gpus-per-task", "hold", "job-name", "no-requeue", "nodes",
        "ntasks", "ntasks-per-node", "open-mode", "output", "parsable", "requeue", "test-only",
        "wait", "wrap",
    }
)  # fmt: skip


def _plain(text: str) -> str:
    if not text or not text.isprintable() or text != text.strip():
        raise ValueError("expected one line of printable text without spaces around it")
    return text


def _line(text: str) -> str:
    if not text.replace("\t", " ").isprintable():
        raise ValueError("expected one line of shell; give several as several list items")
    if text.lstrip().startswith("#SBATCH"):
        raise ValueError("sbatch does not read this here; put options below sbatch:")
    return text


def _option(key: str) -> str:
    name = key.replace("_", "-")
    if name in FIELDS:
        raise ValueError(f"set {FIELDS[name]} of the profile instead")
    if name in RESERVED:
        raise ValueError("sweep sets this itself")
    if not re.fullmatch(r"[a-z][a-z0-9-]+", name):
        raise ValueError("expected an option of sbatch by its long name, without dashes before it")
    return key


def _value(value: str | int | bool) -> str | int | bool:
    if value is False:
        raise ValueError("a bare flag is true; leave it out where it is not wanted")
    return _plain(value) if isinstance(value, str) else value


Text = Annotated[str, AfterValidator(_plain)]
Line = Annotated[str, AfterValidator(_line)]
Option = Annotated[str, AfterValidator(_option)]
Value = Annotated[str | int | bool, AfterValidator(_value)]
