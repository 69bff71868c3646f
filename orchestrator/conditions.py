"""Conditions `KEY=VALUE` on the rows of a plan, as `--where` takes them."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import SweepError

SHOWN = 8
"""Values that a hint lists."""


def condition(text: str, keys: Sequence[str]) -> tuple[str, str]:
    """Split a condition into its column and its value.

    Raises:
        SweepError: It is none, or its column is not one of `keys`.
    """
    key, sign, wanted = text.partition("=")
    if not sign:
        raise SweepError(f"{text!r} is not KEY=VALUE", hint="for example: --where arm=erm")
    return known(key, keys, what="column of the plan"), wanted


def known(name: str, names: Sequence[str], *, what: str) -> str:
    """Return a name that is one of these.

    Raises:
        SweepError: It is not; the message offers a near one, the hint lists them.
    """
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        plural = f"{what.split()[0]}s"
        raise SweepError(f"{name!r} is no {what}{meant}", hint=f"{plural}: {', '.join(names)}")
    return name


def equal(cell: Any, wanted: str) -> bool:
    """Compare a value of the plan with one as people write it: 0.10 is 0.1."""
    return str(cell) == wanted or _json(str(cell)) == _json(wanted)


def values(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    """Say which values columns have."""
    parts = []
    for key in dict.fromkeys(keys):
        found = sorted({str(row[key]) for row in rows})
        shown = ", ".join(found[:SHOWN]) + (", …" if len(found) > SHOWN else "")
        parts.append(f"{key} is one of {shown}")
    return "; ".join(parts)


def _json(text: str) -> Any:
    """Read JSON; what is none stands for itself, and numbers are equal however written."""
    try:
        read = json.loads(text)
    except ValueError:
        return text
    return read if not isinstance(read, bool) else str(read)
