import math

import pytest

from cluster.profile import SlurmProfile
from orchestrator import events, quote
from orchestrator.preparation import Options
from orchestrator.quote import Footprint
from tests.orchestrator import finished
from tests.orchestrator.finished import SPEC, planned, prepare, write_spec

SITE = """\
kind: slurm
partition: gpu
pilots: 3
gpus: 2
walltime_min: 120
lanes_max: 2
"""


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


@pytest.fixture
def site(tmp_path):
    def write(**changed):
        path = tmp_path / "site.yaml"
        path.write_text(SITE + "".join(f"{key}: {value}\n" for key, value in changed.items()))
        return str(path)

    return write


def accept(prepared, *, seconds, device="cpu"):
    """Let every pack be done in so many seconds; its segment is an empty folder."""
    journal = events.Journal(prepared.folder, "driver")
    for pack in prepared.plan.packs:
        (prepared.folder.segments / f"{pack.id}-1").mkdir()
        journal.write(
            "accepted", pack=pack.id, attempt=1, worker="w", failed={}, seconds=seconds,
            kind=prepared.plan.kind(pack), lanes=len(pack.trials), device=device,
        )  # fmt: skip


def test_packs_of_unknown_kinds_have_no_price(tmp_path):
    made = prepare(write_spec(tmp_path), tmp_path / "results")
    found = quote.price_of(made)
    assert math.isnan(found.gpu_hours) and found.unknown == len(made.plan.packs)


def test_packs_of_this_sweep_price_those_to_come(tmp_path, site):
    profile = site(device="cpu")
    accept(planned(write_spec(tmp_path), tmp_path / "results", cluster=profile), seconds=360.0)
    more = write_spec(tmp_path, text=SPEC.replace("seeds: 2", "seeds: 4"))
    made = prepare(more, tmp_path / "results", cluster=profile)
    found = quote.price_of(made)
    packs = len(made.plan.packs)
    assert found.gpu_hours == pytest.approx(packs * 0.1 * 2) and found.unknown == 0
    assert found.seconds == pytest.approx(packs * 360 / 3)


def test_packs_of_a_sweep_beside_this_one_are_used_on_the_same_kind_of_device_only(tmp_path):
    accept(planned(write_spec(tmp_path, name="first"), tmp_path / "results"), seconds=60.0)
    gpu = planned(write_spec(tmp_path, name="gpu"), tmp_path / "results")
    accept(gpu, seconds=1.0, device="cuda")
    made = prepare(write_spec(tmp_path, name="next"), tmp_path / "results")
    assert quote.price_of(made).low == 0.0 and quote.price_of(made).unknown == 0
    assert quote.price_of(made).seconds == pytest.approx(len(made.plan.packs) * 60 / 2, rel=1)


@pytest.mark.parametrize(
    ("changed", "hours", "most"),
    [
        ({}, None, None),
        ({}, 5.0, 5.0),
        ({"replace": "false"}, None, 12.0),
        ({"replace": "false"}, 5.0, 5.0),
        ({"replace": "false", "billing": "node", "node_gpus": 8}, None, 48.0),
    ],
)
def test_the_most_that_can_be_used_is_the_budget_or_what_pilots_that_are_not_replaced_use(
    tmp_path, site, changed, hours, most
):
    made = prepare(
        write_spec(tmp_path), tmp_path / "results", cluster=site(**changed),
        options=Options(max_gpu_hours=hours),
    )  # fmt: skip
    assert isinstance(made.profile, SlurmProfile)
    assert quote.most_gpu_hours(made) == most


def test_files_grow_with_packs_and_pilots_and_not_with_trials(tmp_path, site):
    few = prepare(write_spec(tmp_path), tmp_path / "results", cluster=site())
    text = SPEC.replace("seeds: 2", "seeds: 40")
    many = prepare(write_spec(tmp_path, text=text), tmp_path / "results", cluster=site())
    assert len(many.plan.packs) > len(few.plan.packs)
    each = quote.footprint(many).files - quote.footprint(few).files
    assert each == quote.SEGMENT_FILES * (len(many.plan.packs) - len(few.plan.packs))


def test_bytes_are_within_a_factor_of_three_of_what_is_written(tmp_path):
    made = planned(write_spec(tmp_path), tmp_path / "results")
    expected = quote.footprint(made)
    folder = finished.train(made)
    written = sum(path.stat().st_size for path in folder.segments.rglob("*.parquet"))
    assert written / 3 < expected.size_bytes - quote.PILOT_BYTES < written * 3
    assert expected.source == "from the number of predictions"
    more = write_spec(tmp_path, text=SPEC.replace("seeds: 2", "seeds: 3"))
    assert "segments of this sweep" in quote.footprint(prepare(more, tmp_path / "results")).source


def test_files_and_bytes_of_artefacts_are_counted(tmp_path):
    text = SPEC + "artefacts: {embeddings: evaluation, attention: top, gradients: energy}\n"
    plain = prepare(write_spec(tmp_path, name="plain"), tmp_path / "results")
    before, made = (
        quote.footprint(plain),
        planned(write_spec(tmp_path, text=text), tmp_path / "results"),
    )
    expected = quote.footprint(made)
    folder = finished.train(made)
    kept = [path for path in folder.segments.rglob("artefacts/*")]
    written = sum(path.stat().st_size for path in kept)
    assert written / 3 < expected.size_bytes - before.size_bytes < written * 3
    packs = len(made.plan.packs)
    assert expected.files - before.files == len(kept) + packs  # and their folders


def test_what_does_not_fit_is_a_problem_and_what_is_not_counted_is_none():
    full = Footprint(files=9, size_bytes=5_000, free_bytes=4_000, free_files=8, source="x")
    assert full.problems == ["5 KB to write and 4 KB are free", "9 files to write and room for 8"]
    fine = Footprint(files=9, size_bytes=5_000, free_bytes=5_000, free_files=None, source="x")
    assert fine.problems == []


def test_a_start_that_slurm_does_not_tell_is_unknown(tmp_path, site):
    made = prepare(write_spec(tmp_path), tmp_path / "results", cluster=site())
    found = quote.start(made)
    assert not found.times and found.unknown
