"""Inputs that nobody thought of: mutated specs and profiles, and random bytes for files."""

import random
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import profile as profiles
from cluster.errors import ClusterError
from orchestrator import events, files, spec
from orchestrator.errors import SpecError, StoreError
from orchestrator.folder import Folder
from tests.bad_inputs import inputs
from training.config import Task
from training.data import index
from training.errors import DataError

pytestmark = pytest.mark.slow

PROFILE = "kind: slurm\npartition: gpu\ngpus: 1\nsetup: [module load a]\ndriver: {cpus: 2}\n"

ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", "no", "1e-3", "\x00",
    "\u2028", "切片 'x' \"y\"", "a\nb", "../..", [], [[]], {}, {"kind": "x"}, [None], "x" * 300,
]  # fmt: skip

fast = settings(
    max_examples=30,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """List the (container, key) of every value."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    found = [(tree, key) for key in keys]
    return found + [inner for key in keys for inner in places(tree[key])]


def mutated(text: str, seed: int) -> str:
    """Delete, retype, rename or copy one to three values, or spoil the text itself."""
    draw = random.Random(seed)
    tree = yaml.safe_load(text)
    for _ in range(draw.randint(1, 3)):
        holder, key = draw.choice(places(tree) or [(tree, "x")])
        match draw.choice(["delete", "retype", "rename", "copy"]):
            case "delete":
                del holder[key]
            case "retype":
                holder[key] = draw.choice(ODD)
            case "rename" if isinstance(holder, dict):
                holder[str(key)[:-1] + draw.choice(string.printable)] = holder.pop(key)
            case _:
                other, name = draw.choice(places(tree))
                holder[key] = other[name] if not isinstance(other[name], dict | list) else 7
    told = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    if draw.random() < 0.2:
        place = draw.randrange(len(told) + 1)
        told = told[:place] + draw.choice(["\t", ":", "- ", "&a *a", "{", '"', "\n"]) + told[place:]
    return told


@fast
@given(st.integers(0, 2**32))
def test_a_mutated_spec_is_valid_or_refused_by_place(tmp_path: Path, seed: int) -> None:
    path = inputs.write_spec(tmp_path, mutated(inputs.SPEC, seed))
    try:
        spec.expand(spec.read(path))
    except SpecError as error:
        assert all(line.startswith(str(path)) for line in error.message.splitlines())


@fast
@given(st.integers(0, 2**32))
def test_a_mutated_profile_is_valid_or_refused_by_place(tmp_path: Path, seed: int) -> None:
    path = inputs.write_spec(tmp_path, mutated(PROFILE, seed), name="site")
    try:
        profiles.load(str(path))
    except ClusterError as error:
        assert "site.yaml" in error.message


@fast
@given(st.text(max_size=60))
def test_any_text_is_a_spec_or_refused_by_place(tmp_path: Path, text: str) -> None:
    path = inputs.write_spec(tmp_path, text.encode("utf-8", "replace"))
    with pytest.raises(SpecError, match=r"small\.yaml"):
        spec.read(path)


def spoilt(content: bytes, draw: random.Random) -> bytes:
    """Cut, flip or overwrite some bytes."""
    found = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        if not found:
            break
        place = draw.randrange(len(found))
        match draw.choice(["flip", "cut", "noise"]):
            case "flip":
                found[place] ^= 1 << draw.randrange(8)
            case "cut":
                del found[place:]
            case _:
                found[place : place + 16] = draw.randbytes(16)
    return bytes(found)


@fast
@given(st.integers(0, 2**32), st.sampled_from(["index.parquet", "cases.parquet"]))
def test_a_spoilt_table_is_read_or_a_data_error(
    tmp_path: Path, sound_data: Path, seed: int, name: str
) -> None:
    for path in ("index.parquet", "cases.parquet"):
        (tmp_path / path).write_bytes((sound_data / path).read_bytes())
    (tmp_path / name).write_bytes(spoilt((sound_data / name).read_bytes(), random.Random(seed)))
    try:
        index.read(tmp_path)
    except DataError as error:
        assert str(tmp_path) in error.message


@fast
@given(st.integers(0, 2**32))
def test_a_spoilt_shard_is_listed_or_harmless(tmp_path: Path, sound_data: Path, seed: int) -> None:
    content = spoilt((sound_data / "shards" / "one-000.h5").read_bytes(), random.Random(seed))
    (tmp_path / "shards").mkdir(exist_ok=True)
    (tmp_path / "shards" / "one-000.h5").write_bytes(content)
    sound = index.read(sound_data)
    dataset = index.Dataset(root=tmp_path, index=sound.index, cases=sound.cases, folds=None)
    for line in index.check(dataset, encoders=["one"], task=Task(), num_checksums=32):
        assert "one-000.h5" in line


@fast
@given(st.integers(0, 2**32))
def test_spoilt_lines_of_events_are_passed_over(
    tmp_path: Path, sound_results: Path, seed: int
) -> None:
    draw = random.Random(seed)
    folder = Folder(tmp_path / "small")
    folder.events.mkdir(parents=True, exist_ok=True)
    folder.segments.mkdir(exist_ok=True)
    source = next((sound_results / "small" / "events").glob("*.jsonl")).read_bytes()
    (folder.events / "a.jsonl").write_bytes(source + draw.randbytes(draw.randint(0, 200)))
    found = events.progress(folder)
    assert len(found.trials) == 6


@fast
@given(st.integers(0, 2**32), st.sampled_from(["trials", "predictions"]))
def test_a_spoilt_segment_is_read_or_a_store_error(
    tmp_path: Path, sound_results: Path, seed: int, name: str
) -> None:
    sound = next((sound_results / "small" / "segments").iterdir()) / f"{name}.parquet"
    path = tmp_path / f"{name}.parquet"
    path.write_bytes(spoilt(sound.read_bytes(), random.Random(seed)))
    try:
        files.read_frame(path)
    except StoreError as error:
        assert str(path) in error.message
