"""What `sweep embed` makes of its options, and says."""

import dataclasses
import json

import pytest

from cluster import profile as profiles
from cluster.errors import ClusterError
from orchestrator import embed, embed_jobs
from orchestrator.cli_embed import embed as command
from orchestrator.errors import PlanError, SweepError
from training.errors import DataError
from training.extraction.embedding import Report
from training.extraction.pace import Pace

REPORT = Report(
    encoders={"uni": {"views": 2, "tiles": 1200, "licence": "CC-BY-NC-ND-4.0"}},
    num_slides=3, num_embedded=1200, tiles_per_s=40.0,
    failed=("scan 'c': no tissue",), notes=("scan 'b': not paired",),
)  # fmt: skip


def asked(tmp_path, **changes):
    plain = {
        "out": tmp_path, "encoders": ("uni", "uni", "virchow2"), "checkpoints": (), "config": None,
        "folds": None, "limit": None, "device": "cpu", "workers": None,
    }  # fmt: skip
    return embed.request(tmp_path / "s.csv", **{**plain, **changes})


def test_an_encoder_named_twice_is_one_and_files_are_by_encoder(tmp_path):
    found = asked(tmp_path, checkpoints=("uni=a=b/w.bin",), workers=1000)
    assert found.encoders == ("uni", "virchow2") and found.workers < 1000
    assert str(found.checkpoints["uni"]) == "a=b/w.bin"


@pytest.mark.parametrize("text", ["uni", "=path", "uni="])
def test_a_checkpoint_without_name_or_path_is_refused(tmp_path, text):
    with pytest.raises(SweepError, match="NAME=PATH"):
        asked(tmp_path, checkpoints=(text,))


def slurm_site(folder):
    path = folder / "site.yaml"
    path.write_text("kind: slurm\n")
    return str(path)


@pytest.mark.parametrize(
    "given", [("--device", "cuda"), ("--workers", "0"), ("--device", "cpu", "--workers", "2")]
)
def test_what_a_profile_says_is_not_said_again_with_cluster(tmp_path, given):
    options = ["s.csv", "--out", str(tmp_path), "--encoder", "uni", *given]
    with pytest.raises(SweepError, match=" and ".join(given[::2])) as error:
        command.main([*options, "--cluster", slurm_site(tmp_path)], standalone_mode=False)
    assert "profile" in error.value.hint


@pytest.mark.parametrize("name", ["100%j", "back\\slash", "two\nlines"])
def test_a_data_folder_that_slurm_would_read_otherwise_is_refused(tmp_path, name):
    site = slurm_site(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / name)
    for out in (tmp_path / name, tmp_path / "link" / "data"):
        with pytest.raises(PlanError, match="data may not lie here") as error:
            embed.run(asked(tmp_path, out=out, device=None), cluster=site, yes=True, mode="text")
        assert "--out" in error.value.hint
    assert not list((tmp_path / name).iterdir())


@pytest.mark.parametrize("device", ["gpu0", "cudax", "cuda:", "cuda:-1", ""])
def test_a_device_that_is_none_is_refused(tmp_path, device):
    with pytest.raises(SweepError, match="expected cpu or cuda"):
        asked(tmp_path, device=device)
    assert asked(tmp_path, device="cuda:1").device == "cuda:1"


def test_a_gpu_that_is_not_there_is_refused(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert embed._device("cuda:1") == "cuda:1" and embed._device("") == "cuda"
    with pytest.raises(DataError, match="cuda:2: there are 2 GPUs here"):
        embed._device("cuda:2")


def test_without_a_gpu_nothing_that_one_made_is_made_anew_unasked(tmp_path, monkeypatch):
    import pandas as pd

    from training.data import joining
    from training.data.joining import Existing

    made = pd.DataFrame({"encoder": ["uni", "phikon_v2", "hibou_l"],
                         "precision": ["float16", "float32", ""]})  # fmt: skip
    there = Existing(index=made, cases=pd.DataFrame(), folds=None)
    monkeypatch.setattr(joining, "existing", lambda _root: there)
    names = ("uni", "phikon_v2", "hibou_l", "virchow2")
    monkeypatch.setattr(embed, "_device", lambda _asked: "cpu")
    here = asked(tmp_path, encoders=names, device=None)
    with pytest.raises(DataError, match=r"'uni' in float16, .* made anew in float32") as error:
        embed.run(here, cluster=None, yes=False, mode="text")
    assert "phikon" not in error.value.message and "--device cpu" in error.value.hint


def test_what_tasks_had_to_say_is_in_the_report_of_the_last_job(tmp_path, monkeypatch):
    from training.extraction import embedding

    asked_for = asked(tmp_path)
    (tmp_path / embed_jobs.NAME).mkdir()
    monkeypatch.setattr(embedding, "run", lambda _asked, share=None: dataclasses.replace(
        REPORT, failed=(), notes=("of all", f"of task {share[0]}") if share else ("of all",)
    ))  # fmt: skip
    for job, array, task in (("8", "7", "1"), ("7", "7", "0"), ("5", "", "")):
        for name, value in (("JOB_ID", job), ("ARRAY_JOB_ID", array), ("ARRAY_TASK_ID", task)):
            if value:
                monkeypatch.setenv(f"SLURM_{name}", value)
            else:
                monkeypatch.delenv(f"SLURM_{name}")
        embed_jobs.stage(asked_for, 2)
    for task, torn in (("2", '{"notes": ["of ta'), ("3", ""), ("4", "[]"), ("5", "{}")):
        (tmp_path / embed_jobs.NAME / f"task-7-{task}.json").write_text(torn)
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    embed_jobs.finish(asked_for, "7")
    found = json.loads(embed_jobs.told(tmp_path, "9").read_text())
    assert found["notes"] == ["of all", "of task 0", "of task 1"]


def test_an_array_without_its_last_job_does_not_stay_in_the_queue(tmp_path, monkeypatch):
    programs = {
        "sbatch": f"[ -e {tmp_path}/one ] && {{ echo 'QOSMaxSubmitJob' >&2; exit 1; }}\n"
        f"touch {tmp_path}/one; echo Submitted batch job 71",
        "scancel": f'echo "$*" >> {tmp_path}/ended',
        "srun": "",
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    (tmp_path / "w.bin").write_bytes(b"")
    files = [f"{name}={tmp_path / 'w.bin'}" for name in ("uni", "virchow2")]
    site = profiles.parse({"kind": "slurm"}, where="test")
    with pytest.raises(ClusterError, match="QOSMaxSubmitJob"):
        embed_jobs.submit(asked(tmp_path, checkpoints=files), site, tasks=2)
    assert (tmp_path / "ended").read_text() == "--quiet 71\n"


def test_progress_tells_speed_and_time_left_by_the_slides_seen():
    pace = Pace(num_slides=10, planned=4, found=400, tiles=100, seconds=50.0)
    assert embed.progress_text(pace) == (
        "100 tiles of 4 slides (10 in all), 2.0 tiles/s, about 8 min left"
    )
    assert "left" not in embed.progress_text(Pace(num_slides=10))


def test_the_report_shows_licences_and_names_what_failed(tmp_path, capsys):
    embed.show(REPORT, tmp_path, "text")
    shown = capsys.readouterr()
    assert "2 views, 1,200 tiles, licence CC-BY-NC-ND-4.0" in shown.out
    assert "error: scan 'c': no tissue" in shown.err and "warning: scan 'b'" in shown.err
    embed.show(REPORT, tmp_path, "json")
    assert json.loads(capsys.readouterr().out)["failed"] == ["scan 'c': no tissue"]
    embed.show(REPORT, tmp_path, "quiet")
    assert capsys.readouterr().out == f"{tmp_path}\n"


def pair(**changes):
    plain = {
        "slide": "s", "scan": "b", "reference": "a", "quality": 0.9, "overlap": 1.0,
        "turn_degrees": -0.4, "manual": False, "refused": "",
    }  # fmt: skip
    return {**plain, **changes}


def test_pairs_are_told_by_their_worst_numbers_and_one_by_one_in_json(tmp_path, capsys):
    pairs = (
        pair(),
        pair(scan="c", quality=0.624, overlap=0.874, turn_degrees=-178.26),
        pair(scan="d", quality=0.1, overlap=0.96, turn_degrees=None, refused="quality is 0.10"),
    )
    report = dataclasses.replace(REPORT, pairs=pairs)
    embed.show(report, tmp_path, "text")
    assert (
        "2 registered: quality 0.62 to 0.90, overlap 87% to 100%, turned by up to 178.3°; "
        "1 refused: quality 0.10 to 0.10, overlap 96% to 96%"
    ) in " ".join(capsys.readouterr().out.split())
    embed.show(report, tmp_path, "json")
    assert json.loads(capsys.readouterr().out)["pairs"] == list(pairs)
    embed.show(REPORT, tmp_path, "text")
    assert "\npairs" not in capsys.readouterr().out


def test_terms_that_restrict_passing_on_are_told_with_the_page_to_read(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("encoders: {h_optimus_0: {licence: for our clinic only}}")
    names = ("uni", "hibou_l", "phikon_v2", "h_optimus_0", "prov_gigapath")
    found = embed.terms(asked(tmp_path, encoders=names, config=config))
    assert found == [
        f"embeddings of {name} are under {licence}: look before you pass on predictions, "
        f"embeddings or weights made with them; read https://huggingface.co/{page}"
        for name, licence, page in (
            ("uni", "CC-BY-NC-ND-4.0", "MahmoodLab/UNI"),
            ("phikon_v2", "Owkin non-commercial licence", "owkin/phikon-v2"),
            ("h_optimus_0", "for our clinic only", "bioptimus/H-optimus-0"),
        )
    ]


@pytest.mark.parametrize("mode", ["text", "json"])
def test_terms_are_told_when_something_is_embedded_here(tmp_path, capsys, monkeypatch, mode):
    from training.extraction import embedding

    monkeypatch.setattr(embedding, "run", lambda _asked, **_told: REPORT)
    assert embed.run(asked(tmp_path), cluster=None, yes=False, mode=mode) == 1
    shown = capsys.readouterr()
    told = json.loads(shown.out)["notes"] if mode == "json" else shown.err.splitlines()
    assert "read https://huggingface.co/MahmoodLab/UNI" in told[0]
    assert "read https://huggingface.co/paige-ai/Virchow2" in told[1]
    assert "scan 'b': not paired" in told[2]
