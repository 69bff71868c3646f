"""What an event must hold to be one: fields that every reader relies on.

Later fields are read with a default, so that old journals stay readable. A line that lacks a needed
field was written by something else, or damaged.
"""

from datetime import datetime
from typing import Any

Fields = dict[str, type | tuple[type, ...]]

NUMBER = (int, float)

_PACK: Fields = {"pack": str, "attempt": int}
_NEEDED: dict[str, Fields] = {
    "launching": {"host": str, "pid": int, "created": NUMBER},
    "alive": {"host": str, "pid": int},
    "planned": {"trials": list, "cells": int, "packs": dict, "retried": list},
    "submitting": {"role": str, "tag": str},
    "refused": {"tag": str},
    "submitted": {"role": str, "job": str},
    "driving": {"host": str, "job": str},
    "ended": {"job": str},
    "started": {"job": str, "node": str, "gpus": NUMBER, "size": str, "walltime_s": NUMBER},
    "joined": {"job": str},
    "draining": {"job": str, "reason": str},
    "oom": {"job": str},
    "left": {"job": str, "reason": str, "seconds": NUMBER},
    "gone": {"job": str, "state": str, "seconds": NUMBER},
    "assigned": {**_PACK, "worker": str},
    "accepted": {**_PACK, "failed": dict, "seconds": NUMBER},
    "failed": {**_PACK, "failure": str, "message": str, "final": bool},
    "released": _PACK,
    "rung": {"bracket": str, "epoch": int, "values": dict, "retired": list},
    "split": {"pack": str, "into": dict},
    "moved": {"pack": str, "size": str},
    "excluded": {"node": str, "reason": str},
    "stopped": {"reason": str, "message": str},
    "unsubmittable": {"message": str},
    "cancelled": {"trials": list},
}


def is_whole(event: Any) -> bool:
    """Tell whether what was read of a line is an event; kinds of later versions are taken as such.

    Args:
        event: any JSON value.
    """
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return False
    needed = _NEEDED.get(event["event"], {})
    if not all(isinstance(event.get(name), kind) for name, kind in needed.items()):
        return False
    names = [*event.get("trials", ()), *event.get("retried", ())] if "trials" in needed else []
    packs = event["packs"] if "packs" in needed else event["into"] if "into" in needed else {}
    lists = all(isinstance(ids, list) for ids in packs.values())
    if not lists or not all(isinstance(name, str) for ids in packs.values() for name in ids):
        return False
    return all(isinstance(name, str) for name in names) and _is_time(event.get("time"))


def _is_time(text: Any) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except (TypeError, ValueError):
        return False
