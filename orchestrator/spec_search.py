"""Search instead of a grid: the keys of an arm's `search`, and the settings that it draws.

Every kind is made of ordinary trials. The settings of `random`, those of `asha`, and the first ones
of `optuna` are drawn here, from the search's seed alone, so that all encoders, folds and seeds see
the same settings, arms that search a key over one range see the same values, and a higher `samples`
keeps the settings that there were.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from training.config_base import Config

Scalar = str | int | float | bool | None
Setting = dict[str, Scalar]
"""Dotted key to value."""

LOWER_IS_BETTER = ("loss", "inconsistency")
"""Values of `stopping.metric` of which a search prefers the lower one."""

DIGITS = 6
"""Significant digits of a drawn number: machines that differ in the last bits draw equal trials."""


class Range(Config):
    """Numbers between two ends."""

    low: float = Field(description="lower end, itself among the values")
    high: float = Field(description="upper end, itself among the values")
    log: bool = Field(False, description="even on a logarithmic scale, which needs low above 0")


class Choices(Config):
    """A list of values."""

    choices: list[Scalar] = Field(min_length=1, description="values, each as likely")


def _which(value: Any) -> str:
    keys = value if isinstance(value, dict) else vars(value) if isinstance(value, Config) else ()
    return "choices" if "choices" in keys else "range"


Values = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_which)
]


Samples = Annotated[int, Field(ge=1, le=10_000, description="settings to try")]
Seed = Annotated[int, Field(ge=0, lt=2**31, description="drives the draws")]
Space = Annotated[
    dict[str, Values],
    Field(
        min_length=1,
        description="dotted key, for example optim.lr, to {low, high, log} or {choices}",
    ),
]


class RandomSearch(Config):
    """Settings drawn at random (Bergstra and Bengio, JMLR 2012)."""

    kind: Literal["random"] = Field(description="settings drawn at random")
    samples: Samples
    space: Space
    seed: Seed = 0


class AshaSearch(Config):
    """Random settings, of which the worse ones end early (Li et al., MLSys 2020)."""

    kind: Literal["asha"] = Field(
        description="the settings of random; at rungs, trials whose validation value is not among "
        "the best of their kind so far are retired (asynchronous successive halving)"
    )
    samples: Samples
    space: Space
    seed: Seed = 0
    grace: int = Field(1, ge=1, description="epochs before the first rung")
    reduction: int = Field(
        3, ge=2, description="a rung keeps about one in so many; rungs are so many times apart"
    )


class OptunaSearch(Config):
    """Settings that Optuna suggests from the validation values of earlier ones."""

    kind: Literal["optuna"] = Field(
        description="the first settings as random; then batches that Optuna's TPE suggests, for "
        "each encoder by itself, from mean validation values over folds and seeds"
    )
    samples: Samples
    space: Space
    seed: Seed = 0
    batch: int = Field(8, ge=1, description="settings suggested, and trained, together")


Search = Annotated[RandomSearch | AshaSearch | OptunaSearch, Field(discriminator="kind")]


def initial(search: Search) -> tuple[Setting, ...]:
    """Return the settings that do not depend on results; fewer where the space has fewer."""
    count = search.samples
    if isinstance(search, OptunaSearch):
        count = min(count, search.batch)
    return drawn(search, count)


def drawn(search: Search, count: int) -> tuple[Setting, ...]:
    """Draw so many different settings at random; fewer where the space has fewer."""
    space = json.dumps({key: one.model_dump() for key, one in search.space.items()})
    return tuple(dict(pairs) for pairs in _distinct(space, search.seed, count))


def rounded(value: float, space: Range) -> float:
    """Round a number to `DIGITS` digits, inside its range."""
    return min(max(float(f"{value:.{DIGITS}g}"), space.low), space.high)


def identity(search: Search) -> str:
    """Write what a search's settings follow from; `samples` says only how many of them."""
    return search.model_dump_json(exclude={"samples"})


@lru_cache(maxsize=256)
def _distinct(space: str, seed: int, count: int) -> tuple[tuple[tuple[str, Scalar], ...], ...]:
    values = {key: _values(one) for key, one in json.loads(space).items()}
    found: dict[str, tuple[tuple[str, Scalar], ...]] = {}
    for setting in _draws(values, seed, most=100 * count + 1000):
        found.setdefault(json.dumps(setting), setting)
        if len(found) == count:
            break
    return tuple(found.values())


def _draws(
    space: dict[str, Range | Choices], seed: int, *, most: int
) -> Iterator[tuple[tuple[str, Scalar], ...]]:
    for number in range(most):
        yield tuple((key, _value(one, _uniform(seed, key, number))) for key, one in space.items())


def _uniform(seed: int, key: str, number: int) -> float:
    """Draw from [0, 1); each key and setting has a draw of its own, so no key moves another's."""
    digest = hashlib.sha256(json.dumps([seed, key, number]).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _value(space: Range | Choices, share: float) -> Scalar:
    if isinstance(space, Choices):
        return space.choices[min(int(share * len(space.choices)), len(space.choices) - 1)]
    if space.log:
        low, high = math.log(space.low), math.log(space.high)
        return rounded(math.exp(low + share * (high - low)), space)
    return rounded(space.low + share * (space.high - space.low), space)


def _values(plain: dict[str, Any]) -> Range | Choices:
    return Choices(**plain) if "choices" in plain else Range(**plain)
