"""Specs that are refused before anything is planned: file, line and key are named."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bad_inputs import command, inputs
from tests.bad_inputs.inputs import SPEC

OPTIM, FOLDS, ERM = "{epochs: 1}", "{kind: stratified, num_folds: 2}", "  erm: {views: routine}\n"
GRID = "grid: {losses.score.weight: [0.1, 1]}"


def sub(old: str, new: str) -> str:
    assert old in SPEC
    return SPEC.replace(old, new)


def bomb(start: str, step: str) -> str:
    """Aliases of aliases: a short text that stands for 10^9 values and more."""
    lines = [f"a0: &a0 {start}"]
    for depth in range(1, 10):
        lines.append(f"a{depth}: &a{depth} {step.format(last=f'*a{depth - 1}')}")
    return "\n".join([*lines, SPEC])


LISTS = "[" + ", ".join(["{last}"] * 10) + "]"
MAPS = "{{" + ", ".join(f"k{n}: {{last}}" for n in range(10)) + "}}"
HUGE_GRID = (
    "grid: {"
    + ", ".join(
        f"{key}: [{', '.join(f'0.{n:04}' for n in range(1, 1001))}]"
        for key in ("losses.score.weight", "optim.lr", "optim.weight_decay")
    )
    + "}"
)

FILES = {
    "empty": (b"", ":1: the file is empty"),
    "blank": (b"\n \n\n", ":1: the file is empty"),
    "a comment": (b"# nothing yet\n", ":1: the file is empty"),
    "open bracket": (b"arms: [", ":1: not YAML"),
    "tabs": (b"task:\n\tkind: binary\n", ":2: not YAML: found a tab"),
    "binary": (bytes(range(128, 256)) * 8, "not UTF-8"),
    "nul byte": (b"data: a\0b\n", "not YAML: character 0"),
    "bell": (SPEC.encode() + b"name: \x07\n", "not YAML: character 7"),
    "utf-16": (SPEC.encode("utf-16"), "not UTF-8"),
    "latin-1": (SPEC.encode() + "# Größe".encode("latin-1"), "not UTF-8"),
    "a list": (b"[1, 2]\n", ":1: found a list; expected keys"),
    "a word": (b"hello\n", ":1: found 'hello'; expected keys"),
    "two documents": ((SPEC + "---\n" + SPEC).encode(), "another document"),
    "an alias of nothing": ((SPEC + "x: *nope\n").encode(), ":14: not YAML: found undefined alias"),
    "an alias of itself": ((SPEC + "x: &x [*x]\n").encode(), ":14: x[0]: found an alias inside"),
    "a bomb of lists": (bomb("[1, 2]", LISTS).encode(), "more than 200,000 values"),
    "a bomb of mappings": (bomb("{k: 1}", MAPS).encode(), "more than 200,000 values"),
    "50 MB": (b"# " + b"x" * (50 << 20), "more than 1 MiB"),
    "nested lists": ((SPEC + "x: " + "[" * 600 + "]" * 600).encode(), "nested too deeply"),
    "nested mappings": ((SPEC + "x: " + "{a: " * 500 + "1" + "}" * 500).encode(), "too deeply"),
    "a tag": (sub("seeds: 1", "seeds: !!python/name:os.system x").encode(), ":7: seeds: found the"),
    "a key that is a list": ((SPEC + "? [a, b]\n: 1\n").encode(), ":14: the key is a list"),
    "a merge of a number": ((SPEC + "<<: 3\n").encode(), ":14: << is followed"),
    "a key given twice": (
        (SPEC + "seeds: 2\n").encode(), ":14: seeds: given twice, first on line 7"),
    "half a character": ((SPEC + 'name: "\\ud800"\n').encode(), ":14: name: found half a char"),
    "half a character in a key": ((SPEC + '"\\udc00": 1\n').encode(), ":1: found half a char"),
}  # fmt: skip

VALUES = {
    "no seeds": (sub("seeds: 1", "seeds: 0"), ":7: seeds: found 0; expected at least 1"),
    "negative seeds": (sub("seeds: 1", "seeds: -3"), ":7: seeds: found -3"),
    "seeds NaN": (sub("seeds: 1", "seeds: .nan"), ":7: seeds: found nan"),
    "seeds as text": (sub("seeds: 1", "seeds: '3'"), ":7: seeds: found '3'; expected a whole num"),
    "half a seed": (sub("seeds: 1", "seeds: 1.5"), ":7: seeds: found 1.5"),
    "a date": (sub("seeds: 1", "seeds: 2024-01-01"), ":7: seeds: found '2024-01-01'"),
    "a huge whole number": (sub("seeds: 1", "seeds: " + "9" * 30), ":7: seeds: found 1e+30"),
    "a huge seed": (sub("seeds: 1", "seeds: [999999999999]"), ":7: seeds[0]: found 999999999999"),
    "a seed twice": (sub("seeds: 1", "seeds: [1, 1]"), ":7: seeds: found 1 twice"),
    "an empty list of seeds": (sub("seeds: 1", "seeds: []"), ":7: seeds: found []"),
    "too many seeds": (sub("seeds: 1", "seeds: 200001"), ":7: seeds: found 200001"),
    "lr NaN": (sub(OPTIM, "{epochs: 1, lr: .nan}"), ":6: optim.lr: found nan"),
    "lr infinite": (sub(OPTIM, "{epochs: 1, lr: .inf}"), ":6: optim.lr: found inf"),
    "lr beyond floats": (sub(OPTIM, "{epochs: 1, lr: 1e999}"), ":6: optim.lr: found inf"),
    "lr zero": (sub(OPTIM, "{epochs: 1, lr: 0}"), ":6: optim.lr: found 0; expected more"),
    "lr negative": (sub(OPTIM, "{epochs: 1, lr: -1e-3}"), ":6: optim.lr: found -0.001"),
    "lr as text": (sub(OPTIM, "{epochs: 1, lr: '1e-3'}"), ":6: optim.lr: found '1e-3'"),
    "no epochs": (sub(OPTIM, "{epochs: 0}"), ":6: optim.epochs: found 0"),
    "a boolean for a number": (sub(OPTIM, "{epochs: true}"), ":6: optim.epochs: found true"),
    "a list for a number": (sub(OPTIM, "{epochs: [1]}"), ":6: optim.epochs: found [1]"),
    "no for a kind": (sub("kind: mean", "kind: no"), ":4: head.kind: found 'no'"),
    "no kind": (sub("kind: mean, ", ""), ":4: head: kind is missing"),
    "a kind misspelt": (sub("kind: mean", "kind: meen"), "did you mean mean?"),
    "a wide head": (sub("[4]", "[99999]"), ":4: head.embed_dims[0]: found 99999"),
    "an unknown key": (SPEC + "foo: 1\n", ":14: foo: unknown key"),
    "a key misspelt": (SPEC + "optm: {}\n", ":14: optm: unknown key; did you mean optim?"),
    "no arms": (SPEC[: SPEC.index("arms:")], ":1: arms: missing"),
    "arms without any": (SPEC[: SPEC.index("arms:")] + "arms:\n", ":8: arms: found nothing"),
    "arms as a list": (SPEC[: SPEC.index("arms:")] + "arms: [a]\n", ":8: arms: found [\"a\"]"),
    "an arm without a name": (sub("  erm:", "  '':"), ":9: arms.: found ''"),
    "an arm with a space": (sub("  erm:", "  'a b':"), ":9: arms.a b: found 'a b'"),
    "an arm with a newline": (sub("  erm:", '  "a\\nb":'), ":9: 'arms.a\\nb': found"),
    "losses without pairs": (sub("views: all", "views: routine"), "losses between scans need"),
    "an unknown loss": (sub("kind: score", "kind: skore"), "did you mean score?"),
    "no values": (sub("[0.1, 1]", "[]"), ":13: arms.score.grid.losses.score.weight: found []"),
    "a value twice": (sub("[0.1, 1]", "[1, 1]"), "weight: found 1 twice"),
    "one value without a list": (sub("[0.1, 1]", "3"), "weight: found 3; expected a list"),
    "an infinite weight": (sub("[0.1, 1]", "[.inf]"), "weight[0]: found inf"),
    "a key of no loss": (
        sub("losses.score.w", "losses.scor.w"), "did you mean losses.score.weight"),
    "a grid of 10^9": (sub(GRID, HUGE_GRID), ":8: arms: found 1,000,000,001 cells"),
    "a seed in a grid": (sub(GRID, "grid: {seed: [1, 2]}"), "expected under seeds"),
    "a zip of two lengths": (
        sub(GRID, "zip: [{optim.lr: [1, 2], optim.clip: [1]}]"), "lists of 1 and 2 values"),
    "everything excluded": (SPEC + "exclude: [{encoder: one}]\n", ":14: exclude: found every cell"),
    "an unknown encoder excluded": (
        SPEC + "exclude: [{encoder: onee}]\n", ":14: exclude[0].encoder: found 'onee'"),
    "an unknown arm excluded": (
        SPEC + "exclude: [{arm: [skore]}]\n", "expected one of erm, score; did you mean score?"),
    "an unknown key excluded": (SPEC + "exclude: [{encodr: one}]\n", "did you mean encoder?"),
    "an empty exclusion": (SPEC + "exclude: [{}]\n", ":14: exclude[0]: found a mapping"),
    "no encoders": (sub("[one]", "[]"), ":3: encoders: found []"),
    "an encoder twice": (sub("[one]", "[one, one]"), ":3: encoders: found 'one' twice"),
    "an encoder as a path": (sub("[one]", "[../one]"), ":3: encoders[0]: found '../one'"),
    "an encoder with quotes": (sub("[one]", "['a\"; rm']"), ":3: encoders[0]: found"),
    "one fold": (sub("num_folds: 2", "num_folds: 1"), ":5: folds.num_folds: found 1"),
    "10^9 folds": (sub("num_folds: 2", "num_folds: 1000000000"), ":8: arms: found 3,000,000,000"),
    "cohorts in both parts": (
        sub(FOLDS, "{kind: cohort, train: [dev], test: [dev]}"), "cohort 'dev' is in train and in"),
    "no cohort to test": (
        sub(FOLDS, "{kind: cohort, train: [dev], test: []}"), "folds.test: found"),
    "a class twice": (sub("{kind: binary}", "{kind: binary, classes: [a, a]}"), "holds 'a' twice"),
    "one class": (sub("{kind: binary}", "{kind: binary, classes: [a]}"), "classes holds 1"),
    "three classes of two": (
        sub("{kind: binary}", "{kind: binary, classes: [a, b, c]}"), "holds 3"),
    "an unseen scanner twice": (SPEC + "unseen_scanners: [GT450, GT450]\n", "'GT450' twice"),
    "no validation, but its best": (SPEC + "stopping: {validation_share: 0}\n", ":14: stopping"),
    "a warm-up without an end": (sub(OPTIM, "{epochs: 1, warmup_epochs: 1}"), "warmup_epochs must"),
    "data as a number": (sub("data: data", "data: 5"), ":1: data: found 5; expected text"),
    "no data": (sub("data: data", "data:"), ":1: data: found nothing"),
    "data in no variable": (sub("data: data", "data: $NOT_SET/x"), ":1: data: found '$NOT_SET/x'"),
    "data with a nul byte": (sub("data: data", 'data: "a\\0b"'), ":1: data: found 'a\\x00b'"),
    "data with a newline": (
        sub("data: data", 'data: "a\\nb"'), ":1: data: found 'a\\nb'; expected a"),
    "data of nobody": (sub("data: data", "data: ~nobody-here/x"), ":1: data: found"),
    "data with a long name": (sub("data: data", "data: " + "x" * 5000), ":1: data: found 'xxx"),
    "data in a file": (sub("data: data", "data: small.yaml"), "a file; expected a folder"),
    "a cohort of -1": (
        sub("data: data", "data: {simulate: {dev_patients: -1}}"), "dev_patients: fou"),
    "a cohort of 10^12": (
        sub("data: data", "data: {simulate: {dev_patients: 1000000000000}}"),
        "expected at most 100000"),
    "a cohort of 10^14 numbers": (
        sub("data: data", "data: {simulate: {dev_patients: 100000, max_tiles: 100000}}"),
        "expected at most 2e+10"),
    "a name that leaves the folder": (SPEC + "name: ../x\n", ":14: name: found '../x'"),
    "a name of dots": (SPEC + "name: ..\n", ":14: name: found '..'"),
    "a long name": (SPEC + "name: " + "a" * 65 + "\n", ":14: name: found"),
    "a name with quotes": (SPEC + "name: 'a\"$(touch x)'\n", ":14: name: found"),
    "a name that is taken": (SPEC + "name: data\n", "may not be called 'data'"),
    "a profile as a number": (SPEC + "cluster: 3\n", ":14: cluster: found 3"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "says"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_spec_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    spec = inputs.write_spec(tmp_path, content)
    command.refused(
        tmp_path, "launch", spec, "--results", tmp_path / "results",
        code=command.SPEC_ERROR, says=["small.yaml", says],
    )  # fmt: skip


@pytest.mark.parametrize(("text", "says"), VALUES.values(), ids=VALUES)
def test_a_spec_with_a_wrong_value_is_refused(tmp_path: Path, text: str, says: str) -> None:
    spec = inputs.write_spec(tmp_path, text)
    command.refused(
        tmp_path, "launch", spec, "--results", tmp_path / "results",
        code=command.SPEC_ERROR, says=[says],
    )  # fmt: skip


def test_a_folder_and_a_dangling_link_are_no_specs(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "link.yaml").symlink_to("nowhere")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name in ("folder", "link", "loop", "missing"):
        command.refused(
            tmp_path, "launch", tmp_path / f"{name}.yaml", "--results", tmp_path / "results",
            code=command.SPEC_ERROR, says=[f"{name}.yaml"],
        )  # fmt: skip


def test_names_that_need_quotes_are_named_whole(tmp_path: Path) -> None:
    for name in ("with space", 'quote\'d "twice"', "Größe-切片", "$(touch x)"):
        spec = inputs.write_spec(tmp_path, SPEC + "name: small\nfoo: 1\n", name=name)
        command.refused(
            tmp_path, "launch", spec, "--results", tmp_path / "results",
            code=command.SPEC_ERROR, says=[f"{name}.yaml:15: foo: unknown key"],
        )  # fmt: skip


def test_every_problem_is_in_one_message(tmp_path: Path) -> None:
    text = SPEC.replace("seeds: 1", "seeds: 0").replace("{epochs: 1}", "{epochs: 0, lr: .nan}")
    spec = inputs.write_spec(tmp_path, text + "foo: 1\nunseen_scanners: [A, A]\n")
    error = command.refused(
        tmp_path, "launch", spec, "--results", tmp_path / "results",
        code=command.SPEC_ERROR, says=[":6: optim.epochs", ":6: optim.lr", ":7: seeds", ":14: foo"],
    )  # fmt: skip
    assert len(error.splitlines()) >= 5


@pytest.mark.parametrize("name", ["off", "no", "on", "yes", "null", "1", "2024-01-01", "1e3"])
def test_words_that_other_yaml_converts_are_names_of_arms(
    tmp_path: Path, sound_data: Path, name: str
) -> None:
    text = SPEC.replace("data: data", f"data: {sound_data}").replace("  erm:", f"  {name}:")
    spec = inputs.write_spec(tmp_path, text)
    answer = command.sweep("launch", spec, "-n", "--json", "--results", tmp_path / "results")
    assert answer.code == 0, answer


def test_ten_to_the_nine_cells_are_refused_without_being_made(tmp_path: Path) -> None:
    spec = inputs.write_spec(tmp_path, VALUES["a grid of 10^9"][0])
    began = time.process_time()
    command.sweep("launch", spec, "--results", tmp_path / "results")
    assert time.process_time() - began < 5, "a thousand cells more would take longer"


def test_a_real_process_refuses_too_and_leaves_nothing(tmp_path: Path) -> None:
    spec = inputs.write_spec(tmp_path, SPEC + "foo: 1\n")
    before = command.tree(tmp_path)
    script = "import sys; from orchestrator.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "launch", str(spec)],
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == command.SPEC_ERROR and not done.stdout
    assert "small.yaml:14: foo: unknown key" in done.stderr and "Traceback" not in done.stderr
    assert command.tree(tmp_path) == before
