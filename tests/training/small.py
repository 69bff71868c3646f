"""A small cohort of paired scanners, and trials on it that train in a fraction of a second."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from training.config import (
    GatedAttentionHead,
    InfoNCE,
    Loss,
    Optim,
    Sampling,
    ScoreLoss,
    Stopping,
    StratifiedFolds,
    Survival,
    Task,
    TrialConfig,
)
from training.data import index, shards
from training.data.bags import Bag
from training.data.index import Dataset
from training.data.shards import View
from training.trainer import LaneResult

DIM = 7


def views(
    num_patients: int = 24, *, scanners: Sequence[str] = ("A", "B", "C"), dtype: str = "float32"
) -> list[View]:
    """Patients with one slide or two; every third has single scans; bags of 3 to 9 tiles."""
    found = []
    for number in range(num_patients):
        for slide in range(1 + (number % 5 == 0)):
            name = f"slide {number}-{slide}"
            mine = scanners[:1] if number % 3 == 2 else scanners
            found += [
                View(
                    patient=f"patient {number:03}",
                    slide=name,
                    scan=f"{name}/{scanner}",
                    view=f"{name}/{scanner}",
                    scanner=scanner,
                    cohort="all",
                    routine=scanner == mine[number % len(mine)],
                    num_tiles=3 + (number * 7 + place) % 7,
                    dim=DIM,
                    dtype=dtype,
                )
                for place, scanner in enumerate(mine)
            ]
    return found


def bag(view: View) -> Bag:
    """Noise with the scanner's offset; in the second class the first tile stands out."""
    patient = int(view.patient.split()[1])
    generator = np.random.default_rng([patient, ord(view.scanner)])
    embeddings = generator.normal(size=(view.num_tiles, DIM)) + 0.3 * (ord(view.scanner) - 65)
    embeddings[0, :3] += 3.0 * (patient % 2)
    start = {"A": 0, "B": 2, "C": 1}[view.scanner]
    return Bag(
        embeddings=embeddings.astype(view.dtype),
        tile=np.arange(start, start + view.num_tiles, dtype=np.int32),
        coords=np.zeros((view.num_tiles, 2), np.int32),
    )


def cohort(
    root: Path,
    given: Sequence[View] | None = None,
    *,
    num_classes: int = 2,
    load: Callable[[View], Bag] = bag,
) -> Dataset:
    """Write the cohort with encoder `one` and read it; the plain one is copied from then on."""
    if given is None and load is bag:
        shutil.copytree(_plain(num_classes).name, root, dirs_exist_ok=True)
    else:
        _write(root, views() if given is None else given, num_classes=num_classes, load=load)
    return index.read(root)


@cache
def _plain(num_classes: int) -> tempfile.TemporaryDirectory[str]:
    place = tempfile.TemporaryDirectory(prefix="cohort-", ignore_cleanup_errors=True)
    _write(Path(place.name), views(), num_classes=num_classes, load=bag)
    return place


def _write(
    root: Path, given: Sequence[View], *, num_classes: int, load: Callable[[View], Bag]
) -> None:
    patients = sorted({view.patient for view in given})
    numbers = [int(patient.split()[1]) for patient in patients]
    labels = [f"class {number % num_classes}" for number in numbers]
    cases = pd.DataFrame({"patient": patients, "label": labels, **lives(numbers)})
    shards.write(root, encoder="one", views=given, load=load, cases=cases)


def lives(numbers: Sequence[int]) -> dict[str, list[float] | list[int] | list[str]]:
    """Times with ties: the second class dies earlier; two of seven are censored; two strata."""
    return {
        "time": [float(2 + number % 5 + 6 * (1 - number % 2)) for number in numbers],
        "event": [int(number % 7 not in (2, 5)) for number in numbers],
        "stratum": ["first" if number % 4 < 2 else "second" for number in numbers],
    }


def survival(seed: int = 0, **changed: object) -> TrialConfig:
    """A trial of the survival task; settings of `Survival` are given with the others."""
    given = {name: changed.pop(name) for name in list(changed) if name in Survival.model_fields}
    loss = ScoreLoss(kind="score", weight=0.5, form="huber")
    mine: dict[str, object] = {
        "task": Task(kind="survival", survival=Survival.model_validate(given)),
        "losses": (losses()[0], loss),
        "stopping": Stopping(validation_share=0.25, metric="concordance"),
    }
    return trial(seed, **(mine | changed))


def trial(seed: int = 0, **changed: object) -> TrialConfig:
    """A trial with pairs, three losses, dropout, drawn tiles and clipping, of two epochs."""
    given: dict[str, object] = {
        "encoder": "one",
        "task": Task(),
        "head": GatedAttentionHead(
            kind="gated_attention", embed_dims=(13, 9), attention_dim=5, dropout=0.25
        ),
        "views": "all",
        "losses": losses(),
        "sampling": Sampling(slides_per_batch=5, pairs_per_batch=3, tiles_per_bag=4),
        "optim": Optim(lr=0.01, epochs=2, clip=1.0),
        "stopping": Stopping(validation_share=0.25),
        "folds": StratifiedFolds(kind="stratified", num_folds=3),
        "fold": 0,
        "seed": seed,
    }
    return TrialConfig.model_validate(given | changed)


def losses(scale: float = 1.0, temperature: float = 0.2) -> tuple[Loss, ...]:
    """One loss of each kind and level."""
    return (
        InfoNCE(kind="infonce", weight=scale, temperature=temperature, projection_dim=4),
        InfoNCE(kind="infonce", level="tile", weight=0.5 * scale, temperature=temperature),
        ScoreLoss(kind="score", weight=2.0 * scale),
    )


def routine(seed: int = 0, **changed: object) -> TrialConfig:
    """A trial on routine scans without robustness losses."""
    return trial(seed, **({"views": "routine", "losses": ()} | changed))


def varied(number: int) -> TrialConfig:
    """Lanes that differ in all that lanes may differ in."""
    optim = Optim(
        lr=0.003 * (1 + number % 4),
        weight_decay=0.1 * (number % 3),
        clip=None if number % 2 else 0.5 + number,
        epochs=2,
    )
    given = losses(scale=0.1 + number, temperature=0.1 + 0.05 * number)
    return trial(number, optim=optim, losses=given)


def stopping_early(seed: int) -> TrialConfig:
    """A trial that may end before its 12 epochs do."""
    return trial(
        seed,
        optim=Optim(lr=0.01 * 3**seed, epochs=12, schedule="constant"),
        stopping=Stopping(validation_share=0.25, metric="loss", patience=1),
    )


def assert_same(one: LaneResult, other: LaneResult) -> None:
    """Equal to the bit."""
    assert one.state == other.state and one.failure == other.failure
    assert (one.epoch, one.epochs_trained) == (other.epoch, other.epochs_trained)
    assert one.threshold == other.threshold
    assert np.array_equal(one.validation, other.validation, equal_nan=True)
    assert one.curves.keys() == other.curves.keys()
    for name in one.curves:
        assert np.array_equal(one.curves[name], other.curves[name], equal_nan=True), name
    assert one.weights.keys() == other.weights.keys()
    for name in one.weights:
        assert np.array_equal(one.weights[name], other.weights[name]), name
    pd.testing.assert_frame_equal(one.predictions, other.predictions, check_exact=True)
