"""Whose checkpoint is whose: a pack may go on from its own, and from that of one it was part of."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor


class Identity(TypedDict):
    """What a checkpoint is of: hashes of each lane's trial, and of what they have in common."""

    lanes: list[str]
    shared: str


def identity(trials: Sequence[str], shared: Sequence[object]) -> Identity:
    """Name the trials of a pack, and data, version and device."""
    return Identity(lanes=[_hash(text) for text in trials], shared=_hash(json.dumps(shared)))


def lanes_of(found: object, mine: Identity) -> list[int] | None:
    """Find the lanes of a checkpoint that hold these trials; None where it is of others."""
    if not isinstance(found, Mapping) or found.get("shared") != mine["shared"]:
        return None
    known = {name: lane for lane, name in reversed([*enumerate(found.get("lanes", ()))])}
    lanes = [known.get(name) for name in mine["lanes"]]
    if mine["lanes"] == found["lanes"]:
        return list(range(len(lanes)))
    return None if None in lanes else [lane for lane in lanes if lane is not None]


def part(
    tensors: dict[str, Tensor],
    counters: dict[str, Any],
    lanes: Sequence[int],
    *,
    widths: tuple[int, int],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take some lanes of a snapshot, in this order; a lane may be taken twice.

    Where fewer than two of them are in the stack, another row takes a lane's place there: it has
    ended, and what is computed in its name is not looked at.

    Args:
        tensors: of the snapshot.
        counters: of the snapshot.
        lanes: which.
        widths: of their rows of parameters and of buffers; those of other lanes may be longer.
    """
    progress, slots = counters["progress"], counters["slots"]
    if list(lanes) == list(range(len(progress))):
        return tensors, counters
    places = {lane: place for place, lane in enumerate(slots)}
    inside = [number for number, lane in enumerate(lanes) if lane in places]
    outside = [number for number, lane in enumerate(lanes) if lane not in places]
    kept = sorted([*inside, *outside[: max(0, 2 - len(inside))]])
    rows = torch.tensor([places.get(lanes[number], 0) for number in kept])
    stacked = ("flat", "state", "mean", "square", "generators")
    found = {name: tensors[name][rows.to(tensors[name].device)] for name in stacked}
    chosen = torch.tensor(list(lanes))
    for name in ("chosen_flat", "chosen_state"):
        found[name] = tensors[name][chosen.to(tensors[name].device)]
    rest: dict[str, Any] = {}
    if "contenders" in counters:
        owners = [lane for lane, epochs in enumerate(counters["contenders"]) for _ in epochs]
        wanted = [place for lane in lanes for place, owner in enumerate(owners) if owner == lane]
        for name in ("contenders_flat", "contenders_state"):
            found[name] = tensors[name][wanted]
        rest["contenders"] = [counters["contenders"][lane] for lane in lanes]
    for name in found:
        if name != "generators":
            found[name] = found[name][:, : widths[name.endswith("state")]]
    mine = {"slots": kept, "progress": [copy.deepcopy(progress[lane]) for lane in lanes]}
    return found, counters | mine | rest


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
