"""From slides to a sweep, by real processes: killed, on a full disk, and up to training."""

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.sweeps import command, sweep, wait
from tests.training.extraction.made_up_slides import (
    CONFIG,
    NAME,
    bytes_of,
    draw,
    simple,
    table,
    weights,
)  # fmt: skip
from training.data import index
from training.data.bags import BagReader
from training.extraction import staging

pytestmark = pytest.mark.slow

CMU = Path("slides") / "CMU-1-Small-Region.svs"
SPEC = """\
data: DATA
task: {kind: binary}
encoders: [NAME]
folds: {kind: stratified, num_folds: 2}
seeds: 1
head: {kind: attention, embed_dims: [8], attention_dim: 4}
sampling: {slides_per_batch: 4, pairs_per_batch: 2, tiles_per_bag: 8}
optim: {epochs: 2}
arms:
  erm: {views: routine}
  infonce_tile:
    views: all
    losses: {embedding: {kind: infonce, level: tile}}
  augmented:
    views: all
    pairs: augmented
    losses: {score: {kind: score}}
cluster: local
"""


@pytest.fixture
def cmu():
    root = Path(__file__).parents[2] / ".." / "shared" / "data"
    found = Path(os.environ.get("SWEEP_TEST_DATA", root)) / CMU
    if not found.exists():
        pytest.skip(f"no real slide at {found}; set SWEEP_TEST_DATA")
    return found.resolve()


def settings(folder, **changes):
    """Write the configuration of the made-up slides; return the options of the command."""
    content = {**CONFIG.model_dump(mode="json", exclude_unset=True), **changes}
    (folder / "embed.yaml").write_text(json.dumps(content))
    file = weights(folder)
    return (
        "--encoder", NAME, "--checkpoint", f"{NAME}={file}", "--config", folder / "embed.yaml",
        "--workers", 1, "--device", "cpu",
    )  # fmt: skip


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path):
    slides = simple(tmp_path, 6)
    options = settings(tmp_path)
    sweep("embed", slides, "--out", tmp_path / "quiet", *options)
    expected = bytes_of(tmp_path / "quiet")
    staged = tmp_path / "killed" / staging.FOLDER / NAME

    def bags():
        return len(list(staged.glob("*.h5"))) if staged.is_dir() else 0

    moments = (lambda: (tmp_path / "killed").exists(), lambda: bags() >= 1, lambda: bags() >= 4,
               lambda: any((tmp_path / "killed" / "shards").glob("*")))  # fmt: skip
    for moment in moments:
        process = subprocess.Popen(
            command("embed", slides, "--out", tmp_path / "killed", *options),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        wait(
            lambda moment=moment, process=process: moment() or process.poll() is not None,
            every=0.005,
        )
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    sweep("embed", slides, "--out", tmp_path / "killed", *options)
    assert bytes_of(tmp_path / "killed") == expected


def test_a_full_disk_and_bad_slides_are_named_and_the_others_finish(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "sweep-embed", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        simple(tmp_path, 3)
        draw(tmp_path / "big.png", side=2400)
        (tmp_path / "rubbish.svs").write_bytes(b"no slide" * 99)
        names = ("big.png", "s 0'é.png", "rubbish.svs", "s 1'é.png")
        slides = table(tmp_path, [
            {"slide": n, "scan": n, "patient": n, "label": "x", "file": n} for n in names
        ])  # fmt: skip
        options = settings(tmp_path)
        done = sweep("embed", slides, "--out", disk / "data", *options, "--json", code=1)
        told = json.loads(done.stdout)
        assert {line.split("'")[1] for line in told["failed"]} >= {"big.png", "rubbish.svs"}
        assert any(
            "No space left" in line or "cannot be written" in line for line in told["failed"]
        )
        assert told["encoders"][NAME]["views"] == 2
        assert list(disk.rglob("*.h5.*")) == []
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        text = sweep("embed", slides, "--out", disk / "data", *options, code=1)
        assert "scan 'rubbish.svs'" in text.stderr and "big.png" not in text.stderr
        assert "3 views" in text.stdout
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_bad_requests_are_refused_in_one_go_and_leave_nothing(tmp_path):
    slides = simple(tmp_path, 1)
    (tmp_path / "bad.yaml").write_text("tiling: {tile_pxx: 3, mpp: -1}\nvieuws: []\n")
    out = tmp_path / "data"
    bad = sweep("embed", slides, "--out", out, "--encoder", NAME, "--config",
                tmp_path / "bad.yaml", code=2)  # fmt: skip
    for words in ("did you mean tile_px", "tiling.mpp", "did you mean views"):
        assert words in bad.stderr
    unknown = sweep("embed", slides, "--out", out, "--encoder", "virchow3", code=2)
    assert "did you mean virchow2" in unknown.stderr
    for text in ("uni", "=x", "uni="):
        assert "NAME=PATH" in sweep(
            "embed", slides, "--out", out, "--encoder", "uni", "--checkpoint", text, code=2
        ).stderr  # fmt: skip
    assert not out.exists()


def test_a_gated_encoder_without_a_way_to_its_hub_names_the_page(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    slides = simple(tmp_path, 1)
    done = sweep("embed", slides, "--out", tmp_path / "data", "--encoder", "uni", code=2)
    assert "huggingface.co/MahmoodLab/UNI" in done.stderr and "Traceback" not in done.stderr
    assert "--checkpoint uni=PATH" in done.stderr


def cut_pieces(cmu, folder, count=8):
    """Cut a real slide into pieces that stand for slides, each scanned by A and by a made-up B."""
    from training.extraction import views
    from training.extraction.config_views import AugmentedView
    from training.extraction.slides import open_slide

    look = AugmentedView.model_validate(
        {"name": "b", "steps": [{"kind": "hed", "sigma": 0.1}, {"kind": "jpeg"}]}
    )
    with open_slide(cmu) as slide:
        whole, _ = slide.thumbnail(max(slide.size))
    (folder / "same.json").write_text(json.dumps({"unit": "px", "affine": [[1, 0, 0], [0, 1, 0]]}))
    rows = []
    for number in range(count):
        y, x = divmod(number, 2)
        piece = whole[y * 740 : (y + 1) * 740, x * 1100 : (x + 1) * 1100]
        other = views.apply(views.draw(look, seed=0, scan="B", sample=piece), piece[None])[0]
        for scanner, pixels in (("A", piece), ("B", other)):
            name = f"{number}-{scanner}"
            Image.fromarray(pixels).save(folder / f"{name}.png")
            rows.append(
                {"slide": f"s{number}", "scan": name, "patient": f"p{number}", "scanner": scanner,
                 "label": "ab"[number % 2], "file": f"{name}.png", "mpp": "0.499",
                 "transform": "same.json" if scanner == "B" else ""}
            )  # fmt: skip
    return table(folder, rows)


def test_a_real_slide_and_a_made_up_scanner_become_a_sweep(cmu, tmp_path):
    slides = cut_pieces(cmu, tmp_path)
    looks = [{"name": "jpeg", "steps": [{"kind": "jpeg"}]}]
    tiling = {"tile_px": 160, "min_tissue": 0.3}  # some pieces hold little tissue
    options = settings(tmp_path, tiling=tiling, views=looks, registration={"thumbnail_px": 512})
    done = sweep("embed", slides, "--out", tmp_path / "data", *options)
    assert "not paired" not in done.stderr and "licence apache-2.0" in done.stdout
    assert "8 registered: quality" in done.stdout
    assert len(list((tmp_path / "data" / "thumbnails" / "pairs").glob("*.png"))) == 8
    dataset = index.read(tmp_path / "data")
    rows, reader = dataset.index.set_index("view", drop=False), BagReader(tmp_path / "data")
    assert len(rows) == 8 * 2 * 2
    for number in range(8):
        first, second = (rows.loc[f"{number}-{scanner}"] for scanner in "AB")
        common = np.intersect1d(reader.tiles(first), reader.tiles(second))
        assert len(common) >= 0.8 * first["num_tiles"]
        assert np.array_equal(
            reader.coords(first)[np.isin(reader.tiles(first), common)],
            reader.coords(second)[np.isin(reader.tiles(second), common)],
        )
    spec = tmp_path / "pairs.yaml"
    spec.write_text(SPEC.replace("DATA", str(tmp_path / "data")).replace("NAME", NAME))
    launched = sweep("launch", spec, "--results", tmp_path / "results")
    assert "6 of 6 trials done" in launched.stderr
    made = sweep("aggregate", "pairs", "--results", tmp_path / "results").stdout
    assert {line.split("\t")[1] for line in made.splitlines()[1:]} >= {"erm", "infonce_tile"}
