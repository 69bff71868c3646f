"""The canonical text of a configuration, which trials and checkpoints are named by."""

from functools import lru_cache
from typing import Any

from training.config import Config, TrialConfig
from training.config_lanes import scalar

_SEEN_MAX = 2**14
_seen: dict[int, tuple[Config | tuple[Any, ...], str]] = {}


def canonical(config: Config) -> str:
    """Write a configuration as JSON with sorted keys, without added fields at their default.

    A field marked `json_schema_extra={"added": True}` is left out while it has its default. Whoever
    changes such a default later must take the mark away, or old results would pass for new ones.
    """
    return _text(config)


def _text(value: Any) -> str:
    if isinstance(value, TrialConfig):
        return _fields(value)
    if isinstance(value, Config | tuple):
        return _remembered(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1 and 1.0 are one value, whichever way a copy was made
    return scalar(value)


def _remembered(value: Config | tuple[Any, ...]) -> str:
    """Sections of a configuration are shared by many trials: as objects, which is quick to see."""
    known = _seen.get(id(value))
    if known is not None:
        return known[1]
    text = _fields(value) if isinstance(value, Config) else f"[{','.join(map(_text, value))}]"
    if len(_seen) >= _SEEN_MAX:
        _seen.clear()
    _seen[id(value)] = value, text  # the object is kept, so that no other gets its number
    return text


def _fields(config: Config) -> str:
    parts = [
        f'"{name}":{_text(value)}'
        for name, added, default in _layout(type(config))
        for value in (getattr(config, name),)
        if not added or not (value is default or value == default)
    ]
    return "{" + ",".join(parts) + "}"


@lru_cache
def _layout(model: type[Config]) -> tuple[tuple[str, bool, Any], ...]:
    """List the fields by name, whether each was added later, and its default."""
    return tuple(
        (
            name,
            isinstance(info.json_schema_extra, dict)
            and info.json_schema_extra.get("added") is True,
            info.get_default(call_default_factory=True, validated_data={}),
        )
        for name, info in sorted(model.model_fields.items())
    )
