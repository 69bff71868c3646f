"""A pack through the worker, in this process: real data, real training, a real segment."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from orchestrator import events, plan, spec, store, worker
from orchestrator.events import Journal
from orchestrator.folder import Folder
from orchestrator.spec_artefacts import Artefacts
from orchestrator.worker import Assignment, Job, Setting
from tests.end_to_end.sweeps import write_spec
from training import simulate
from training.data import index

ALL = Artefacts(weights="all", embeddings="evaluation", attention="top", gradients="energy")


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    home = tmp_path_factory.mktemp("worker")
    sweep = spec.read(write_spec(home))
    simulate.write(sweep.simulation, home / "data")
    dataset = index.read(home / "data")
    return home, plan.make(spec.expand(sweep), dataset=dataset, lanes_max=4)


def make(home, pack, name, **changes):
    folder = Folder(home / name)
    folder.create()
    ids = [trial.id for trial in pack.trials]
    Journal(folder, "launch").write(
        "planned", trials=ids, cells=1, packs={pack.id: ids}, retried=[]
    )
    configs = [trial.config.model_copy(update=changes) for trial in pack.trials]
    pairs = tuple((i, c.model_dump_json()) for i, c in zip(ids, configs, strict=True))
    job = Job(pack=pack.id, encoder=pack.encoder, trials=pairs)
    setting = Setting(folder=folder.root, data=home / "data", device="cpu", artefacts=ALL)
    return folder, Assignment(job=job, attempt=1), setting


def train(assignment, setting, **kwargs):
    threads = torch.get_num_threads()
    try:
        return worker.train(
            assignment, setting, **{"on_epoch": lambda *_: None, "stop": lambda: False, **kwargs}
        )
    finally:
        torch.set_num_threads(threads)


def test_a_pack_leaves_one_segment_with_a_row_per_lane(planned):
    home, made = planned
    folder, assignment, setting = make(home, made.packs[0], "good")
    epochs = []
    outcome = train(assignment, setting, on_epoch=lambda *share: epochs.append(share))
    assert outcome.failure is None and outcome.failed == {}
    assert epochs[-1] == (3, 3)
    assert events.list_segments(folder) == [(made.packs[0].id, 1)]
    tables = store.read_results(folder)
    assert len(tables["trials"]) == len(made.packs[0].trials)
    assert tables["curves"]["epoch"].agg(["min", "max"]).tolist() == [1, 3]
    assert set(tables["predictions"]["part"]) == {"test", "validation"}


def test_a_pack_leaves_the_artefacts_that_were_asked_for_and_no_others(planned):
    home, made = planned
    pack = made.packs[0]
    ids = [trial.id for trial in pack.trials]
    for name, wanted in (
        ("kept", ALL),
        ("bare", Artefacts()),
        ("weights", Artefacts(weights="all")),
    ):
        folder, assignment, setting = make(home, pack, name)
        assert train(assignment, replace(setting, artefacts=wanted)).failure is None
        kept = folder.segments / f"{pack.id}-1" / "artefacts"
        found = {path.name for path in kept.iterdir()} if kept.exists() else set()
        weights = {f"weights-{trial}.safetensors" for trial in ids}
        trials = store.read_results(folder)["trials"]
        if name == "bare":
            assert not kept.exists() and "gradient_energy" not in trials
            bare = store.read_results(folder)
        elif name == "weights":
            assert found == weights
        else:
            assert found == weights | {
                "scans.parquet", "embeddings.safetensors", "attention.safetensors",
                "attention_agreement.parquet", "gradient_energy.parquet",
            }  # fmt: skip
            whole, at = store.read_results(folder), kept
    scans = pd.read_parquet(at / "scans.parquet")
    embeddings = load_file(at / "embeddings.safetensors")
    attention = load_file(at / "attention.safetensors")
    assert sorted(embeddings) == sorted(ids)
    assert sorted(attention) == sorted(f"{i}.{name}" for i in ids for name in ("tile", "weight"))
    for trial, rows in whole["predictions"].groupby("trial"):
        assert set(rows.loc[rows["held_out"], "view"]) == set(scans["view"])
        assert len(embeddings[trial]) == len(attention[f"{trial}.tile"]) == len(scans)
    # What is kept changes no prediction, and the table of trials has the means of the tables.
    pd.testing.assert_frame_equal(whole["predictions"], bare["predictions"], check_exact=True)
    energy = pd.read_parquet(at / "gradient_energy.parquet").groupby("trial")["energy"].mean()
    found = whole["trials"].set_index("trial")["gradient_energy"]
    pd.testing.assert_series_equal(found, energy, check_names=False)
    agreement = pd.read_parquet(at / "attention_agreement.parquet")
    assert set(agreement["trial"]) == set(ids)
    assert whole["trials"]["attention_spearman"].between(-1, 1).all()


def test_a_worker_that_must_stop_gives_the_pack_back_with_a_checkpoint(planned):
    home, made = planned
    folder, assignment, setting = make(home, made.packs[0], "stopped")
    assert train(assignment, setting, stop=lambda: True).stopped
    assert events.list_segments(folder) == []
    assert any((folder.checkpoints / made.packs[0].id).iterdir())
    assert train(assignment, setting).failure is None


def test_data_that_changed_since_the_plan_are_refused(planned, tmp_path):
    home, made = planned
    _, assignment, setting = make(home, made.packs[0], "changed")
    simulation = spec.read(write_spec(tmp_path)).simulation
    simulate.write(simulation, tmp_path / "data")
    cases = pd.read_parquet(tmp_path / "data" / "cases.parquet")
    cases["label"] = cases["label"].map({"0": "1", "1": "0"})
    cases.to_parquet(tmp_path / "data" / "cases.parquet")
    elsewhere = Setting(folder=setting.folder, data=tmp_path / "data", device="cpu")
    outcome = train(assignment, elsewhere)
    assert outcome.failure.kind == "data" and "changed since" in outcome.failure.message


def test_a_pack_whose_lanes_all_die_is_recorded_and_not_a_bug(planned):
    home, made = planned
    pack = made.packs[0]
    trials = [
        spec.trial.make(
            t.config.model_copy(update={"optim": t.config.optim.model_copy(update={"lr": 1e38})}),
            t.fingerprint,
        )
        for t in pack.trials
    ]
    wild = plan.pack(trials, lanes_max=4)[0]
    folder, assignment, setting = make(home, wild, "wild")
    outcome = train(assignment, setting)
    assert outcome.failure is None
    assert set(outcome.failed.values()) == {"numeric"}
    assert store.read_results(folder)["trials"]["state"].unique().tolist() == ["failed"]


def test_a_log_tells_where_an_attempt_began_and_ended(planned, caplog):
    home, made = planned
    _, assignment, setting = make(home, made.packs[0], "logged")
    epochs = []
    with caplog.at_level("INFO", logger="orchestrator.worker"):
        stopped = train(
            assignment, setting, on_epoch=lambda epoch, _: epochs.append(epoch),
            stop=lambda: bool(epochs),
        )  # fmt: skip
        assert stopped.stopped and train(assignment, setting).failure is None
    lines = [record.getMessage() for record in caplog.records]
    pack = made.packs[0].id
    assert lines[0].startswith(f"pack={pack} attempt=1 trials={made.packs[0].trials[0].id}")
    assert lines[1:] == [
        f"pack={pack} attempt=1 stopped after epoch 1 of 3", lines[0],
        f"pack={pack} attempt=1 resumed epoch=1", f"pack={pack} attempt=1 epoch=3 done",
    ]  # fmt: skip


def test_the_segment_and_the_outcome_name_the_device(planned):
    home, made = planned
    folder, assignment, setting = make(home, made.packs[0], "device")
    assert train(assignment, setting).device == "cpu"
    assert store.read_results(folder)["trials"]["device"].unique().tolist() == ["cpu"]


def test_bags_that_are_too_large_to_keep_give_the_same_result(planned):
    home, made = planned
    tables = []
    for name, resident_gb in (("kept", 2.0), ("read again", 0.0)):
        folder, assignment, setting = make(home, made.packs[0], name)
        assert train(assignment, replace(setting, resident_gb=resident_gb)).failure is None
        tables.append(store.read_results(folder)["predictions"])
    pd.testing.assert_frame_equal(*tables)


def test_a_shard_that_was_damaged_after_the_launch_is_wrong_data_with_the_scan(planned, tmp_path):
    home, made = planned
    _, assignment, setting = make(home, made.packs[0], "shard")
    simulate.write(spec.read(write_spec(tmp_path)).simulation, tmp_path / "data")
    for path in (tmp_path / "data" / "shards").iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 4 : len(content) // 4 * 3] = bytes(len(content) // 2)
        path.write_bytes(content)
    failure = train(assignment, replace(setting, data=tmp_path / "data")).failure
    assert failure.kind == "data" and "shards" in failure.message and "view" in failure.message
