"""The settings that Optuna's TPE suggests from results; the only door to optuna.

Tree-structured Parzen estimator, Bergstra et al., NeurIPS 2011. The study is built anew from what
was told, in its order, with a seed of its own: equal results give equal suggestions.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator import spec_search
from orchestrator.spec_search import Choices, OptunaSearch, Range, Setting

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

TRIES = 50
"""How often Optuna may repeat settings before the next one is drawn at random instead."""


def settings(
    search: OptunaSearch, told: Sequence[tuple[Setting, float | None]], count: int
) -> list[Setting]:
    """Suggest the next settings of a search, none of which was told.

    Args:
        search: whose space it is.
        told: earlier settings with their values, the higher the better; None where one failed.
        count: how many to suggest.
    """
    study, space = _study(search, told), _distributions(search)
    known = [setting for setting, _ in told]
    drawn = iter(spec_search.drawn(search, len(known) + count))
    found: list[Setting] = []
    for _ in range(count):
        new = next((one for one in _asked(study, search, space) if one not in known), None)
        new = new or next((one for one in drawn if one not in known), None)
        if new is not None:  # of a small space nothing may be left
            known.append(new)
            found.append(new)
    return found


def _asked(
    study: "Study", search: OptunaSearch, space: Mapping[str, "BaseDistribution"]
) -> Iterator[Setting]:
    """Ask again and again, `TRIES` times at most."""
    for _ in range(TRIES):
        params = study.ask(dict(space)).params
        yield {key: _rounded(params[key], one) for key, one in search.space.items()}


def _study(search: OptunaSearch, told: Sequence[tuple[Setting, float | None]]) -> "Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    digest = hashlib.sha256(json.dumps([search.seed, len(told)]).encode()).digest()
    sampler = optuna.samplers.TPESampler(
        seed=int.from_bytes(digest[:4], "big"),
        n_startup_trials=min(len(told), search.batch),
        constant_liar=True,  # of a batch, none is suggested close to another
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    space = _distributions(search)
    for setting, value in told:
        states = optuna.trial.TrialState
        study.add_trial(
            optuna.trial.create_trial(
                params=setting,
                distributions=space,
                value=value,
                state=states.FAIL if value is None else states.COMPLETE,
            )
        )
    return study


def _distributions(search: OptunaSearch) -> dict[str, "BaseDistribution"]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        key: CategoricalDistribution(one.choices)
        if isinstance(one, Choices)
        else FloatDistribution(one.low, one.high, log=one.log)
        for key, one in search.space.items()
    }


def _rounded(value: spec_search.Scalar, space: Range | Choices) -> spec_search.Scalar:
    if isinstance(space, Range):
        assert isinstance(value, float)
        return spec_search.rounded(value, space)
    return value
