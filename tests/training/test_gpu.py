"""Lanes on a GPU: `python -m pytest -m gpu tests/training/test_gpu.py -s` prints the table."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import small
from training import trainer
from training.config import GatedAttentionHead, Optim, Sampling, TrialConfig
from training.data.index import Dataset
from training.lanes import Lanes
from training.session import Session

SIZES = (1, 4, 16, 64)
TILES, DIM = 512, 1024


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


HEAD = GatedAttentionHead(
    kind="gated_attention", embed_dims=(13, 9), attention_dim=5, dropout=0.0
)  # fmt: skip
PACKS = ([0, 1, 2, 3, 4], [4, 2], [3, 0, 1])
FAR = {"bfloat16": 0.2, "float16": 0.02}
"""How far the gradient of a step may be from that in float32, beside its length."""


def stepped(configs: Sequence[TrialConfig], cohort: Dataset, device: str) -> Lanes:
    """Take one step. Masks of dropout differ between devices, so that there are none."""
    session = Session(configs, cohort, device=torch.device(device), resident_bytes=2**20)
    batches = iter(session.loader.batches(_draws(session), session.shared.sampling.tiles_per_bag))
    session._step(next(batches))
    return session.lanes


def _draws(session: Session):
    from training.data import sampling

    shared = session.shared
    return sampling.epoch(
        session.pool, shared.sampling, key=(shared.draw_seed, shared.fold, 1)
    )  # fmt: skip


def assert_one_step_is_alike(cohort: Dataset, device: str) -> None:
    configs = [small.trial(seed, head=HEAD) for seed in range(5)]
    expected = stepped(configs, cohort, "cpu").flat
    for lanes in PACKS:
        found = stepped([configs[lane] for lane in lanes], cohort, device).flat.cpu()
        torch.testing.assert_close(found, expected[lanes], rtol=1e-5, atol=1e-5)


def assert_half_precision_is_near(cohort: Dataset, device: str, precision: str) -> None:
    """The step itself is no measure: Adam's first is the sign of a gradient, however small."""
    expected = stepped([small.trial(seed, head=HEAD) for seed in range(5)], cohort, "cpu").grad
    for lanes in PACKS:
        configs = [small.trial(lane, head=HEAD, precision=precision) for lane in lanes]
        found = stepped(configs, cohort, device).grad.cpu()
        far = (found - expected[lanes]).norm(dim=1) / expected[lanes].norm(dim=1)
        assert (far > 0).all() and (far < FAR[precision]).all(), far


def test_one_step_is_alike_whatever_the_companions(cohort: Dataset):
    assert_one_step_is_alike(cohort, "cpu")


@pytest.mark.gpu
def test_one_step_on_a_gpu_is_that_on_a_cpu(cohort: Dataset):
    assert_one_step_is_alike(cohort, "cuda")


@pytest.mark.parametrize("precision", FAR)
def test_a_gradient_in_half_precision_is_near_that_in_float32(cohort: Dataset, precision: str):
    assert_half_precision_is_near(cohort, "cpu", precision)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", FAR)
def test_a_gradient_in_half_precision_on_a_gpu_is_near_that_on_a_cpu(
    cohort: Dataset, precision: str
):
    assert_half_precision_is_near(cohort, "cuda", precision)


@pytest.mark.gpu
def test_many_lanes_train_more_trials_an_hour(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(small, "DIM", DIM)
    views = [replace(view, num_tiles=TILES, dim=DIM, dtype="float16") for view in small.views(60)]
    cohort = small.cohort(tmp_path, views, load=_wide)
    seconds = {size: _per_trial(size, cohort, "cuda") for size in SIZES}
    lines = [f"\n{torch.cuda.get_device_name()}, {TILES} tiles of {DIM}"]
    for size, found in seconds.items():
        times = seconds[1] / found
        lines.append(f"K = {size:3}: {found:.3f} s a trial, {times:.1f} × the trials an hour")
    for precision in FAR:
        found = _per_trial(16, cohort, "cuda", precision)
        times = seconds[16] / found
        lines.append(f"K =  16, {precision}: {found:.3f} s a trial, {times:.1f} × those of float32")
    sys.stdout.write("\n".join(lines) + "\n")
    assert seconds[16] < seconds[1]


def _wide(view):
    found = small.bag(replace(view, dtype="float32", dim=DIM))
    return replace(found, embeddings=found.embeddings.astype(np.float16))


def _per_trial(size: int, cohort: Dataset, device: str, precision: str = "float32") -> float:
    """Time a pack from the end of its first epoch."""
    head = GatedAttentionHead(
        kind="gated_attention", embed_dims=(512,), attention_dim=256, dropout=0.25
    )
    configs = [
        small.routine(
            seed, head=head, optim=Optim(lr=1e-3, epochs=6), precision=precision,
            sampling=Sampling(slides_per_batch=16, tiles_per_bag=TILES),
        )
        for seed in range(size)
    ]  # fmt: skip
    marks: list[float] = []
    trainer.train(
        configs, cohort, device=device, resident_bytes=2**33,
        on_epoch=lambda *_: marks.append(time.perf_counter()),
    )  # fmt: skip
    return (marks[-1] - marks[0]) / (len(marks) - 1) / size
