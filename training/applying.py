"""Applies trained models to scans: weights as a trial left them, and bags of any data set.

`scores` gives what the trainer would have said of these scans: the input map that was fitted in
training moves their embeddings, a survival task gives risks, and `test_time` holds. Models are
lanes of one stack, so that they share a pass over the bags. Nothing is fitted, no label is read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from training import evaluation, memory, objective
from training.config import TrialConfig
from training.config_inputs import Centre, ComBat, NoInputMethod, Standardise
from training.data import input_map
from training.data.bags import BagReader
from training.data.index import Dataset
from training.data.input_map import InputMap
from training.data.loading import Loader
from training.data.sampling import Rows
from training.data.scans import Scans
from training.errors import DataError
from training.lanes import Lanes
from training.objective import Objective

_INPUT = "input."
_DEVICE = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trained trial.

    Attributes:
        name: for messages.
        config: of the trial.
        weights: as in `trainer.LaneResult.weights`.
    """

    name: str
    config: TrialConfig
    weights: Mapping[str, np.ndarray]


def family(config: TrialConfig) -> str:
    """Name what models of one call of `scores` have in common."""
    parts = (config.head, config.task, config.input)
    return repr((config.encoder, config.precision, *(each.model_dump_json() for each in parts)))


def scores(
    models: Sequence[Model],
    dataset: Dataset,
    table: pd.DataFrame,
    *,
    report: Callable[[int], None] | None = None,
) -> npt.NDArray[np.floating]:
    """Score whole bags, [model, scan, class]; of a survival task the risk, [model, scan, 1].

    The caller sets `torch.set_num_threads(1)` for results that are the same to the bit.

    Args:
        models: of one family, at least one.
        dataset: where the bags are.
        table: the scans, at least one, see `index.scans`.
        report: called with the number of models and scans that were scored since the last call.

    Raises:
        DataError: Weights are damaged or made for other embeddings, a bag cannot be read, or a
            score is not finite.
    """
    stacks: dict[bytes, list[int]] = {}
    for place, model in enumerate(models):
        stacks.setdefault(_map_bytes(model), []).append(place)
    parts = [
        _of_one_map([models[place] for place in places], dataset, table, report)
        for places in stacks.values()
    ]
    order = np.argsort([place for places in stacks.values() for place in places])
    return np.concatenate(parts)[order]


def _map_bytes(model: Model) -> bytes:
    """Tell input maps apart."""
    own = sorted(name for name in model.weights if name.startswith(_INPUT))
    return b"".join(name.encode() + model.weights[name].tobytes() for name in own)


def _of_one_map(
    models: Sequence[Model],
    dataset: Dataset,
    table: pd.DataFrame,
    report: Callable[[int], None] | None,
) -> npt.NDArray[np.floating]:
    config, width = models[0].config, int(table["dim"].iloc[0])
    made = [_built(model, width) for model in models]
    own = _as_scans(table, num_outputs=_num_outputs(models[0]), in_dim=width)
    num_tiles = table["num_tiles"].to_numpy(np.int64)
    largest = max(int(num_tiles.max()), evaluation.CHUNK_INSTANCES)
    together = memory.lanes_in_cache(largest, config, in_dim=width)
    # A lone model gets a companion, as in training: alone it would take other kernels.
    stack = Lanes([*made, *made[: 2 - len(made)]], device=_DEVICE, together=together)
    loader = Loader(
        BagReader(dataset.root), own, dtype=objective.dtype(config), device=_DEVICE,
        resident_bytes=0, input_map=_restored(models[0], table),
    )  # fmt: skip
    rows = np.arange(len(table))

    def note(places: Rows, *_: Tensor) -> None:
        if report is not None:
            report(len(models) * len(places))

    found = evaluation.score(stack, loader, rows, num_tiles, observe=note)[: len(models)]
    _require_finite(found, models, table)
    if config.task.kind == "survival":
        found = np.stack([evaluation.risks(lane) for lane in found])
    averaged = [
        evaluation.mean_over_scans(own, rows, lane)
        if model.config.test_time == "mean_over_scans"
        else lane
        for model, lane in zip(models, found, strict=True)
    ]
    return np.stack(averaged)


def _built(model: Model, width: int) -> Objective:
    """Make the model with its weights; what its losses have beside it is not needed.

    Raises:
        DataError: The weights are not those of such a model, or are for another width.
    """
    plain = model.config.model_copy(update={"losses": ()})
    expected = _width(model)
    if expected is not None and expected != width:
        raise DataError(
            f"{model.name}: made for embeddings of width {expected}, those of encoder "
            f"{model.config.encoder!r} in these data have width {width}",
            hint="the data must come of the encoder that the models were trained on",
        )
    made = objective.initialise(
        plain, 0, in_dim=width, num_outputs=_num_outputs(model), num_patients=1
    )
    own, given = made.model.state_dict(), model.weights
    for name, tensor in own.items():
        if name not in given or given[name].shape != tuple(tensor.shape):
            found = given[name].shape if name in given else "nothing"
            raise _damaged(model, f"{name} is {found}, expected {tuple(tensor.shape)}")
        if not np.isfinite(given[name]).all():
            raise _damaged(model, f"{name} has numbers that are not finite")
    made.model.load_state_dict({name: torch.from_numpy(np.array(given[name])) for name in own})
    return made


def _damaged(model: Model, reason: str) -> DataError:
    return DataError(f"{model.name}: damaged weights: {reason}", hint="bring back a sound copy")


def _width(model: Model) -> int | None:
    """Find the width of the embeddings that weights are for; None where they do not tell."""
    first = "embedding.layers.0.linear" if model.config.head.embed_dims else "classifier"
    found = model.weights.get(f"{first}.weight")
    return int(found.shape[1]) if found is not None and found.ndim == 2 else None


def _num_outputs(model: Model) -> int:
    """Count the columns of the scores."""
    task = model.config.task
    if task.kind == "survival":
        return task.survival.num_intervals if task.survival.loss == "discrete" else 1
    if task.kind == "binary":
        return 1
    for name in ("classifier.bias", "pooling.classifier.bias"):
        if name in model.weights and model.weights[name].ndim == 1:
            return len(model.weights[name])
    raise _damaged(model, "no bias of a classifier")


def _restored(model: Model, table: pd.DataFrame) -> InputMap | None:
    """Make the input map of a model for these scans."""
    method = model.config.input
    if isinstance(method, NoInputMethod):
        return None
    group = table[method.group] if isinstance(method, Centre | Standardise | ComBat) else None
    given = {name: each for name, each in model.weights.items() if name.startswith(_INPUT)}
    try:
        found = input_map.restore(given, group)
    except (KeyError, ValueError) as error:
        raise _damaged(model, f"the input map is not whole: {error!r}") from error
    return found


def _as_scans(table: pd.DataFrame, *, num_outputs: int, in_dim: int) -> Scans:
    """Describe scans of which nothing is known but the bags."""
    return Scans(
        table=table,
        label=np.zeros(len(table), np.int64),
        seen=np.ones(len(table), np.bool_),
        patient=np.unique(table["patient"], return_inverse=True)[1].astype(np.int64),
        scanner=np.unique(table["scanner"], return_inverse=True)[1].astype(np.int64),
        num_outputs=num_outputs,
        in_dim=in_dim,
        groups={},
        num_groups={},
    )


def _require_finite(
    found: npt.NDArray[np.floating], models: Sequence[Model], table: pd.DataFrame
) -> None:
    wrong = ~np.isfinite(found).all(2)
    if wrong.any():
        model, scan = np.argwhere(wrong)[0]
        raise DataError(
            f"{models[model].name}: the score of view {table['view'].iloc[scan]!r} is not finite"
        )
