"""The axes of a spec: what `grid` and `zip` vary, and what is wrong with them.

The spec's own axes are several values of its own settings, so they do not vary what an encoder or
an arm sets itself; a key of a loss varies in the arms that have a loss of that name.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from orchestrator.spec_lines import Place
from orchestrator.spec_model import NOT_BASE, Arm, Axes, Spec, given, kinds, section
from orchestrator.spec_problems import one_of, shown, unknown
from training.config import Config, TrialConfig

OWN_KEYS = {"encoder": "encoders", "fold": "folds", "seed": "seeds", "losses": "arms"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of an axis, and where the spec gives it."""

    key: str
    value: Any
    place: Place


Axis = list[tuple[Choice, ...]]
"""The values to go through; each may set several keys together."""


def axes_of(part: Axes, place: Place) -> list[Axis]:
    """List the axes of a spec or an arm: grid keys, then zips, in their order."""
    grid: list[Axis] = [
        [(Choice(key, value, (*place, "grid", key, n)),) for n, value in enumerate(values)]
        for key, values in part.grid.items()
    ]
    zips: list[Axis] = [
        [
            tuple(
                Choice(key, values[n], (*place, "zip", g, key, n)) for key, values in group.items()
            )
            for n in range(len(next(iter(group.values()))))
        ]
        for g, group in enumerate(part.zip)
    ]
    return grid + zips


def open_axes(spec: Spec, encoder: str, arm: Arm) -> list[Axis]:
    """List those of the spec's axes that an encoder and an arm leave open, without repetitions."""
    keys = _open_keys(spec, arm) - set(_leaves(given(spec.own_settings(encoder))))
    kept = []
    for axis in axes_of(spec, ()):
        picks: dict[str, tuple[Choice, ...]] = {}
        for pick in axis:
            part = tuple(choice for choice in pick if choice.key in keys)
            picks.setdefault(json.dumps([choice.value for choice in part]), part)
        if "[]" not in picks:
            kept.append(list(picks.values()))
    return kept


def axis_keys(spec: Spec) -> tuple[str, ...]:
    """List the dotted keys of all axes, the spec's first."""
    parts: list[Axes] = [spec, *spec.arms.values()]
    keys = (key for part in parts for key in (*_keys(part), *_searched(part)))
    return tuple(dict.fromkeys(keys))


@cache
def settings(model: type[Config] = TrialConfig) -> tuple[str, ...]:
    """List the dotted keys of a configuration that an axis may vary, over all kinds."""
    keys = []
    for name, info in model.model_fields.items():
        if model is TrialConfig and name in NOT_BASE and name != "views":
            continue
        inner = section(info)
        models = [inner] if inner else kinds(model, name).values()
        keys += [f"{name}.{key}" for part in models for key in settings(part)] if models else [name]
    return tuple(dict.fromkeys(keys))


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with an axis or an exclusion."""

    place: Place
    text: str
    usable: bool = False
    """Whether it can stay while the rest of the spec is checked."""


def flaws(spec: Spec) -> Iterator[Flaw]:
    """Find what is wrong with grid, zip, exclude, and with lists that may not repeat a value."""
    own = {key for arm in spec.arms.values() for key in loss_keys(arm)}
    legal = [*settings(), *sorted(own)]
    yield from _part_flaws(spec, (), legal)
    for name, arm in spec.arms.items():
        yield from _part_flaws(arm, ("arms", name), [*settings(), *sorted(loss_keys(arm))])
    for place, key, _ in _entries(spec, ()):
        if key in legal and not any(key in _open_keys(spec, arm) for arm in spec.arms.values()):
            yield Flaw(place, "every arm sets it itself; expected an arm that leaves it open", True)
    for name, values in (("encoders", list(spec.encoders or ())), ("seeds", spec.seeds)):
        if isinstance(values, list) and (twice := _twice(values)):
            yield _repeated((name,), twice[0])
    named = {"encoder": list(spec.encoder_names), "arm": list(spec.arms)}
    for number, entry in enumerate(spec.exclude):
        for key, wanted in entry.items():
            place = ("exclude", number, key)
            if key not in (*named, *legal):
                yield Flaw(place, unknown(key, [*named, *legal]))
            for name in wanted if isinstance(wanted, list) else [wanted]:
                if key in named and name not in named[key]:
                    text = f"found {shown(name)}; expected {one_of(str(name), named[key])}"
                    yield Flaw(place, text, True)


def _part_flaws(part: Axes, place: Place, legal: Sequence[str]) -> Iterator[Flaw]:
    seen, searched = set[str](), _searched(part)
    for where, key, values in _entries(part, place):
        if key in OWN_KEYS:
            yield Flaw(where, f"not for an axis; expected under {OWN_KEYS[key]}")
        elif key not in legal:
            yield Flaw(where, unknown(key, legal))
        if key in seen:
            yield Flaw(where, "an axis already; expected once, in grid or in zip", True)
        if key in searched:
            yield Flaw(where, "searched already; expected an axis or a search of it", True)
        seen.add(key)
        twice = _twice(values)
        if twice and where[-2] == "grid":
            yield _repeated(where, twice[0])
    for number, group in enumerate(part.zip):
        lengths = sorted({len(values) for values in group.values()})
        if len(lengths) > 1:
            text = " and ".join(map(str, lengths))
            found = f"found lists of {text} values; expected equal lengths"
            yield Flaw((*place, "zip", number), found)
        elif twice := _twice([list(values) for values in zip(*group.values(), strict=True)]):
            yield _repeated((*place, "zip", number), twice[0])


def _repeated(place: Place, value: Any) -> Flaw:
    return Flaw(place, f"found {shown(value)} twice; expected different values", True)


def _entries(part: Axes, place: Place) -> Iterator[tuple[Place, str, list[Any]]]:
    for key, values in part.grid.items():
        yield (*place, "grid", key), key, values
    for number, group in enumerate(part.zip):
        for key, values in group.items():
            yield (*place, "zip", number, key), key, values


def _keys(part: Axes) -> list[str]:
    return [key for _, key, _ in _entries(part, ())]


def _searched(part: Axes) -> list[str]:
    return list(part.search.space) if isinstance(part, Arm) and part.search else []


def loss_keys(arm: Arm) -> set[str]:
    """List the dotted keys of an arm's losses."""
    return {
        f"losses.{name}.{key}"
        for name, loss in arm.losses.items()
        for key in type(loss).model_fields
        if key != "kind"
    }


def _open_keys(spec: Spec, arm: Arm) -> set[str]:
    """Keys of the spec's axes that an arm neither sets nor lacks."""
    usable, own = loss_keys(arm), {*_leaves(given(arm)), *_keys(arm), *_searched(arm)}
    keys = (key for key in _keys(spec) if key in usable or not key.startswith("losses."))
    return {key for key in keys if key not in own}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _twice(values: Iterable[Any]) -> list[Any]:
    texts: set[str] = set()
    repeated = []
    for value in values:
        text = json.dumps(value, sort_keys=True)
        if text in texts:
            repeated.append(value)
        texts.add(text)
    return repeated
