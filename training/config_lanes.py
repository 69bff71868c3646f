"""Which trials can train together as lanes of one pass over the bags."""

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from training.config_base import Config

APART = ("seed", "test_time")
"""Fields that lanes may differ in; beside them parts of `optim` and of losses."""

_SEEN_MAX = 2**14
_seen: dict[int, tuple[Any, str]] = {}


def lane_key(config: Config) -> str:
    """Name the pack family: equal for trials that can train as lanes of one pass.

    Lanes may differ in seed, learning rate, weight decay, clipping, in the weight and temperature
    of a loss, and in what is done with scores after training; everything else must agree.
    """
    parts = (f'"{name}":{text}' for name, text in in_common(config))
    return hashlib.sha256(f"{{{','.join(parts)}}}".encode()).hexdigest()[:12]


def in_common(config: Config) -> Iterator[tuple[str, str]]:
    """Write by field, in order of their names, what the lanes of one pass must agree in."""
    for name in _names(type(config)):
        yield name, _shared(name, getattr(config, name))


def scalar(value: Any) -> str:
    """Write a value without parts as JSON does, several times as fast."""
    if isinstance(value, str):
        return _quoted(value)
    return str(value) if type(value) is int else json.dumps(value)


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    return json.dumps(text)


@lru_cache
def _names(model: type[Config]) -> tuple[str, ...]:
    return tuple(sorted(model.model_fields.keys() - set(APART)))


def _shared(name: str, value: Any) -> str:
    """Write what lanes have in common of a field as JSON; many trials share it as an object."""
    if not isinstance(value, Config | tuple):
        return scalar(value)
    known = _seen.get(id(value))
    if known is None:
        if len(_seen) >= _SEEN_MAX:
            _seen.clear()
        known = _seen[id(value)] = value, _written(name, value)  # kept: its number stays its own
    return known[1]


def _written(name: str, value: Config | tuple[Any, ...]) -> str:
    plain: Any
    match name, value:
        case "optim", Config():
            plain = value.model_dump(mode="json", exclude={"lr", "weight_decay", "clip"})
        case "losses", tuple():
            away = {"weight", "temperature"}
            plain = [loss.model_dump(mode="json", exclude=away) for loss in value]
        case _, Config():
            plain = value.model_dump(mode="json")
        case _:
            plain = value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))
