"""Another user of the machine gets nothing; two launches at the same moment train once."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from cluster import ray_node, slurm
from tests.chaos import ledger, processes
from tests.end_to_end.sweeps import command, status, sweep, table, wait, write_spec

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("testbed")]
STRANGER = 12345


@pytest.fixture(scope="module")
def training(tmp_path_factory, testbed):
    """A sweep that trains, in a folder whose parents anybody may enter."""
    folder = tmp_path_factory.mktemp("shared")
    for parent in (folder, *folder.parents):
        if parent != Path("/") and parent.stat().st_uid == os.getuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    spec = write_spec(folder, epochs=2000)
    results = folder / "results"
    sweep("launch", spec, "--cluster", "testbed", "--yes", "--results", results, "--quiet")
    root = results / "small"
    wait(lambda: ledger.read(root).of("assigned"))
    yield root
    sweep("cancel", "small", "--results", results, "--quiet")
    known = ledger.read(root)
    wait(lambda: slurm.queue(known.jobs("driver") + known.jobs("pilot")) == {}, timeout=60)


def stranger(uid, root, *paths, token=None, mode="token"):
    address = json.loads((root / "pool" / "head.json").read_text())["address"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment["RAY_AUTH_MODE"] = mode
    if token is not None:
        environment["RAY_AUTH_TOKEN"] = token
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("stranger.py")), str(uid), address,
         *map(str, paths)],
        capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def scratch_folders():
    """The temporary folders of the Ray nodes that run now, by the command lines of processes."""
    words = (
        " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    )
    return sorted({found for line in words for found in processes.SCRATCH.findall(line)})


def test_a_stranger_who_knows_the_address_reads_nothing_and_does_not_get_in(training):
    token = (training / "pool" / "token").read_text()
    paths = [
        training, training / "pool", training / "pool" / "token", training / "pool" / "head.json",
        training / "pool" / "submitit", training / "events", training / "plan.parquet",
    ]  # fmt: skip
    nodes = [Path(name) for name in scratch_folders()]
    assert nodes
    owner = stranger(0, training, *paths, *nodes, token=token)
    assert set(owner.values()) == {"got in"}, owner
    for guess in ("0" * len(token), token[:-1] + ("0" if token[-1] != "0" else "1")):
        found = stranger(STRANGER, training, *paths, *nodes, token=guess)
        assert "got in" not in found.values(), found
    without = stranger(STRANGER, training, *paths, mode="disabled")
    assert "got in" not in without.values(), without


def test_a_node_with_another_token_does_not_join(training, tmp_path):
    address = json.loads((training / "pool" / "head.json").read_text())["address"]
    before = stranger(0, training, token=(training / "pool" / "token").read_text())
    wrong = tmp_path / "token"
    ray_node.make_token(wrong)
    node = ray_node.join(
        address, token=wrong, ip="127.0.0.9", workers=1, gpus=0, memory_bytes=2**30, place={}
    )
    try:
        wait(lambda: not node.alive(), timeout=120)
        assert "nauthenticated" in node.log() or "token" in node.log(), node.log()
    finally:
        node.end()
    assert stranger(0, training, token=(training / "pool" / "token").read_text()) == before


def test_the_address_and_token_stay_the_owners_whatever_the_umask(training):
    assert training.stat().st_mode & 0o077 == 0
    for name in ("token", "head.json"):
        assert (training / "pool" / name).stat().st_mode & 0o777 == 0o600
    for name in scratch_folders():
        assert Path(name).stat().st_mode & 0o077 == 0, name


def test_two_launches_at_the_same_moment_train_every_pack_once(tmp_path):
    spec = write_spec(tmp_path, seeds=3)
    alone, both = tmp_path / "alone", tmp_path / "both"
    sweep("launch", spec, "--results", alone)
    words = ("launch", spec, "--cluster", "testbed", "--yes", "--results", both, "--quiet")
    started = [
        subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in started]
    codes = sorted(process.returncode for process in started)
    assert codes == [0, 1], said
    assert any("training already" in error for _, error in said), said
    root = both / "small"
    wait(lambda: not status(root)["running"])
    known = ledger.read(root)
    packs = Counter(event["pack"] for event in known.of("assigned"))
    assert set(packs.values()) == {1} and len(known.jobs("driver")) == 1
    assert known.missing == [] and table(root) == table(alone / "small")


def test_two_local_launches_at_the_same_moment_train_every_pack_once(tmp_path):
    spec = write_spec(tmp_path, seeds=3)
    words = ("launch", spec, "--cluster", "local", "--results", tmp_path / "both", "--quiet")
    started = [
        subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=240) for process in started]
    assert sorted(process.returncode for process in started) == [0, 1], said
    packs = Counter(
        event["pack"] for event in ledger.read(tmp_path / "both" / "small").of("assigned")
    )
    assert set(packs.values()) == {1}
