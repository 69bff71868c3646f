"""Lanes on a GPU: `python -m pytest -m gpu tests/training/test_gpu.py -s` prints the table."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.training import small
from tests.training.losses import kinds
from tests.training.models.test_contract import every_head
from training import trainer
from training.config import (
    GatedAttentionHead,
    Head,
    Loss,
    MeanHead,
    Optim,
    Sampling,
    Stopping,
    TrialConfig,
)
from training.data import resident
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
BY_KIND = {loss.kind: loss for loss in kinds.LOSSES}
MIXED: tuple[tuple[Loss, ...], ...] = (
    (), small.losses(), small.losses(), (BY_KIND["mmd"],), (BY_KIND["irm"], BY_KIND["score"]),
)  # fmt: skip
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
    """Of lanes with the same losses, and of lanes with several kinds of them."""
    alike = [small.trial(seed, head=HEAD) for seed in range(5)]
    mixed = [small.trial(seed, head=HEAD, losses=each) for seed, each in enumerate(MIXED)]
    for configs in (alike, mixed):
        expected = stepped(configs, cohort, "cpu").flat
        for lanes in PACKS:
            found = stepped([configs[lane] for lane in lanes], cohort, device).flat.cpu()
            own = expected[lanes, : found.shape[1]]  # rows are as long as the longest of the pack
            torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-5)


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


LOSSES = [loss for loss in kinds.LOSSES if loss.kind in ("infonce", "score", "mmd", "dann", "irm")]


def assert_a_gradient_is_alike(cohort: Dataset, device: str, head: Head) -> None:
    given = head.model_copy(update={"dropout": 0.0}) if head.embed_dims else head
    for loss in LOSSES:
        try:
            configs = [kinds.trial(n, loss, head=given, precision="float64") for n in range(3)]
        except ValidationError:  # this loss changes nothing in this head
            continue
        expected, found = (stepped(configs, cohort, each).grad for each in ("cpu", device))
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-7, atol=1e-10, msg=_of(loss))


def _of(loss: Loss):
    return lambda said: f"{kinds.named(loss)}: {said}"


@pytest.mark.gpu
@every_head
def test_a_gradient_on_a_gpu_is_that_on_a_cpu_in_float64(tmp_path: Path, head: Head):
    assert_a_gradient_is_alike(kinds.cohort(tmp_path), "cuda", head)


def assert_streamed_bags_are_alike(cohort: Dataset, device: str) -> None:
    """All batches are taken before one is looked at: a buffer filled too early would show."""
    told = []
    for place, resident_bytes in (("cpu", 2**30), (device, 0)):
        session = Session(
            [small.routine(seed) for seed in range(2)], cohort,
            device=torch.device(place), resident_bytes=resident_bytes,
        )  # fmt: skip
        told.append([each.bags for each in session.loader.batches(_draws(session), None)])
    assert len(told[0]) == len(told[1]) >= 4
    for one, other in zip(*told, strict=True):
        assert torch.equal(one, other.cpu())


@pytest.mark.gpu
@pytest.mark.parametrize("stored", ["float32", "float16"])
def test_bags_that_are_streamed_to_a_gpu_are_those_on_disk(
    tmp_path: Path, monkeypatch, stored: str
):
    assert_streamed_bags_are_alike(_cohort(tmp_path, monkeypatch, 24, 256, stored), "cuda")


def assert_a_stopped_pack_goes_on(cohort: Dataset, checkpoint: Path, device: str) -> None:
    """With dropout, whose masks follow from generators on the device."""
    configs = [small.trial(seed, precision="float64") for seed in range(3)]
    undisturbed = trainer.train(configs, cohort, device=device)
    epochs: list[int] = []
    given = {"device": device, "checkpoint": checkpoint}
    with pytest.raises(trainer.Stopped):
        trainer.train(
            configs, cohort, **given, stop=lambda: len(epochs) == 1,
            on_epoch=lambda epoch, _: epochs.append(epoch),
        )  # fmt: skip
    found = trainer.train(
        configs, cohort, **given, on_epoch=lambda epoch, _: epochs.append(epoch)
    )  # fmt: skip
    assert epochs == [1, 2]
    assert_near(found, undisturbed)


def assert_near(found: Sequence[trainer.LaneResult], expected: Sequence[trainer.LaneResult]):
    for one, other in zip(found, expected, strict=True):
        assert one.state == other.state == "done" and one.epoch == other.epoch
        scores = (each.predictions["score"].to_numpy() for each in (one, other))
        np.testing.assert_allclose(*scores, rtol=1e-6, atol=1e-8)


@pytest.mark.gpu
def test_a_pack_that_was_stopped_on_a_gpu_goes_on_there(cohort: Dataset, tmp_path: Path):
    assert_a_stopped_pack_goes_on(cohort, tmp_path, "cuda")


ROOM = 2.5e9
"""Bytes in which two lanes of `large` fit, and not sixteen: one takes 0.2 to 0.6 GB."""


def large(seed: int) -> TrialConfig:
    return small.routine(
        seed, head=MeanHead(kind="mean", embed_dims=(1024,), dropout=0.0), precision="float64",
        optim=Optim(lr=1e-3, epochs=2), stopping=Stopping(validation_share=0.25, epoch="last"),
        sampling=Sampling(slides_per_batch=16, tiles_per_bag=TILES),
    )  # fmt: skip


@pytest.mark.gpu
def test_lanes_that_a_gpu_has_no_room_for_train_with_fewer_in_a_call(
    tmp_path: Path, monkeypatch, caplog
):
    cohort = _cohort(tmp_path, monkeypatch, 60, 256, "float16")
    configs = [large(seed) for seed in range(16)]
    undisturbed = trainer.train(configs, cohort, device="cuda")
    assert "out of memory" not in caplog.text
    resident.forget()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(ROOM / total)
    try:
        found = trainer.train(configs, cohort, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "lanes in one call from now on" in caplog.text
    assert_near(found, undisturbed)


def _cohort(
    root: Path, monkeypatch: pytest.MonkeyPatch, num_patients: int, dim: int, dtype: str
) -> Dataset:
    """Bags of `TILES` tiles."""
    monkeypatch.setattr(small, "DIM", dim)
    given = small.views(num_patients)
    views = [replace(view, num_tiles=TILES, dim=dim, dtype=dtype) for view in given]
    return small.cohort(root, views, load=_stored)


def _stored(view):
    found = small.bag(replace(view, dtype="float32"))
    return replace(found, embeddings=found.embeddings.astype(view.dtype))


@pytest.mark.gpu
def test_many_lanes_train_more_trials_an_hour(tmp_path: Path, monkeypatch):
    cohort = _cohort(tmp_path, monkeypatch, 60, DIM, "float16")
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
