"""Extraction as SLURM jobs: tasks share the slides, a last job brings everything together."""

import json
from pathlib import Path

import pytest

from cluster import slurm
from orchestrator import embed_jobs
from tests.end_to_end.sweeps import sweep, wait
from tests.slurm.test_pool import profile
from tests.training.extraction.made_up_slides import CONFIG, NAME, bytes_of, simple, weights

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("testbed")]


def test_jobs_make_the_data_set_that_this_machine_makes(tmp_path):
    slides = simple(tmp_path, 4)
    (tmp_path / "embed.yaml").write_text(json.dumps(CONFIG.model_dump(exclude_unset=True)))
    options = (
        "--encoder", NAME, "--checkpoint", f"{NAME}={weights(tmp_path)}",
        "--config", tmp_path / "embed.yaml",
    )  # fmt: skip
    site = profile(tmp_path, setup=["export OMP_NUM_THREADS=1", f"cd {Path.cwd()}"])
    out = tmp_path / "data"
    refused = sweep("embed", slides, "--out", out, *options, "--cluster", site, code=2)
    assert "--yes" in refused.stderr and not out.exists()
    submitted = sweep("embed", slides, "--out", out, *options, "--cluster", site, "--yes", "--json")
    jobs = json.loads(submitted.stdout)["jobs"]
    assert len(jobs) == 3 and jobs[0].partition("_")[0] == jobs[1].partition("_")[0] != jobs[2]
    wait(lambda: slurm.queue([jobs[0].partition("_")[0], jobs[2]]) == {}, timeout=300)
    report = json.loads(embed_jobs.told(out, jobs[2]).read_text())
    assert json.loads(submitted.stdout)["report"] == str(embed_jobs.told(out, jobs[2]))
    assert report["failed"] == [] and report["encoders"][NAME]["views"] == 4
    assert report["num_embedded"] == 0  # the tasks had done it
    sweep("embed", slides, "--out", tmp_path / "here", *options, "--device", "cpu")
    mine = {k: v for k, v in bytes_of(out).items() if not k.startswith(embed_jobs.NAME)}
    assert mine == bytes_of(tmp_path / "here")
