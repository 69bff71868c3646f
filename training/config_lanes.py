"""Which trials can train together as lanes of one pass over the bags."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from training.config_base import Config

APART = ("seed", "test_time", "losses")
"""Fields that lanes may differ in; beside them parts of `optim`."""

VARIED = frozenset({"weight", "temperature"})
"""Fields that losses computed in one call may differ in."""

_SEEN_MAX = 2**14
_seen: dict[int, tuple[Any, str]] = {}


def lane_key(config: Config) -> str:
    """Name the pack family: equal for trials that can train as lanes of one pass.

    Lanes may differ in seed, learning rate, weight decay, clipping, in their losses, and in what is
    done with scores after training; everything else must agree.
    """
    parts = (f'"{name}":{text}' for name, text in in_common(config))
    return hashlib.sha256(f"{{{','.join(parts)}}}".encode()).hexdigest()[:12]


def loss_key(config: Any) -> str:
    """Name the losses of a trial: equal for lanes whose losses are computed in one call.

    These may differ in weight and temperature. All else in a pass is one call for all lanes.

    Args:
        config: a `TrialConfig`.
    """
    return _shared("losses", config.losses)


def loss_key_of(losses: Iterable[Mapping[str, Any]]) -> str:
    """Give the same from losses as JSON has them."""
    plain = [{name: value for name, value in loss.items() if name not in VARIED} for loss in losses]
    return _json(plain)


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
            return loss_key_of(loss.model_dump(mode="json") for loss in value)
        case _, Config():
            plain = value.model_dump(mode="json")
        case _:
            plain = value
    return _json(plain)


def _json(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))
