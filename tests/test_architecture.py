"""What keeps the house in order: lengths, cheap start, help, and words that must not appear."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from orchestrator.cli import cli

ROOT = Path(__file__).parent.parent
SOURCES = [
    path for name in ("orchestrator", "training", "cluster") for path in (ROOT / name).rglob("*.py")
]
HEAVY = ("torch", "ray", "pandas", "pyarrow", "submitit", "numpy", "rich", "sklearn")


def functions(tree):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def test_files_are_at_most_300_lines():
    long = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in SOURCES}
    assert {name: lines for name, lines in long.items() if lines > 300} == {}


def test_functions_are_at_most_60_lines_and_15_on_average():
    lengths = {
        f"{path.name}:{node.name}": node.end_lineno - node.lineno + 1
        for path in SOURCES
        for node in functions(ast.parse(path.read_text()))
    }
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}
    assert sum(lengths.values()) / len(lengths) <= 15


def test_no_file_is_called_utils():
    assert [path for path in SOURCES if "util" in path.stem or "helper" in path.stem] == []


def test_broad_excepts_stand_in_two_places_only():
    found = [
        path.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") == "Exception")
    ]
    assert sorted(found) == ["cli.py", "worker.py"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["status", "nothing-here"],
        ["logs", "--help"],
        ["hold", "--help"],
        ["doctor"],
        ["report", "--help"],
    ],
)
def test_light_commands_import_nothing_heavy(arguments, tmp_path):
    program = (
        "import sys, json\n"
        f"sys.argv = ['sweep', *{arguments!r}]\n"
        "from orchestrator.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert json.loads(done.stderr.splitlines()[-1]) == []


def test_embed_submits_from_a_login_node_without_torch_and_tells_terms(tmp_path, monkeypatch):
    for name, text in (("sbatch", "echo Submitted batch job 7\n"), ("srun", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "s.png").touch()
    (tmp_path / "slides.csv").write_text("slide,scan,patient,scanner,label,file\ns,s,p,A,x,s.png\n")
    (tmp_path / "uni.bin").touch()
    arguments = [
        "embed", "slides.csv", "--out", "data", "--encoder", "uni", "--checkpoint", "uni=uni.bin",
        "--cluster", "slurm_a100", "--yes", "--quiet",
    ]  # fmt: skip
    program = (
        "import sys\n"
        f"sys.argv = ['sweep', *{arguments!r}]\n"
        "from orchestrator.cli import main\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert done.code == 0, done.code\n"
        "print([name for name in ('torch', 'timm', 'itk', 'openslide') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines() == ["7", "7", "[]"], done.stderr
    assert "CC-BY-NC-ND" in done.stderr and "read https://huggingface.co/MahmoodLab" in done.stderr


def commands(group=cli, path=("sweep",)):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_has_help_an_example_three_outputs_and_a_place_in_the_readme(name, command):
    assert f"Example: {name}" in command.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "--quiet"} <= options
    assert name in (ROOT / "README.md").read_text()


def test_the_flags_are_the_agreed_ones():
    flags = {
        f"{name} {parameter.opts[0]}"
        for name, command in commands()
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.opts[0] not in ("--json", "-q")
    }
    start = {
        f"sweep {command} {flag}"
        for command in ("launch", "resume")
        for flag in (
            "--cluster", "-n", "-y", "--script", "--foreground", "--probe", "--max-gpu-hours"
        )
    }  # fmt: skip
    places = {
        f"sweep {command} --results"
        for command in (
            "launch", "resume", "status", "logs", "cancel", "hold", "archive", "doctor",
            "aggregate", "report", "predict",
        )
    }  # fmt: skip
    index = {
        f"sweep index {command} {flag}"
        for command in ("features", "instances")
        for flag in ("--out", "--encoder", "--folds")
    }
    others = {
        "sweep launch --cancel-removed", "sweep resume --retry", "sweep aggregate --allow-missing",
        "sweep aggregate --select", "sweep aggregate --margin", "sweep aggregate --metric",
        "sweep aggregate --by", "sweep aggregate --against", "sweep aggregate --where",
        "sweep aggregate --cell", "sweep aggregate --intervals", "sweep aggregate --draws",
        "sweep aggregate --method",
        "sweep aggregate --representation", "sweep aggregate --reference",
        "sweep status --watch", "sweep status --failed", "sweep status --trial",
        "sweep status --check", "sweep logs --failed", "sweep logs --driver", "sweep logs --follow",
        "sweep cancel --where", "sweep hold --release", "sweep archive --out",
        "sweep archive --restore", "sweep doctor --cluster", "sweep doctor --write",
        "sweep doctor -y", "sweep index features --licence", "sweep index instances --bag",
        "sweep index instances --label", "sweep index instances --patient", "sweep report --bundle",
        "sweep report --out", "sweep report --allow-missing", "sweep report --draws",
        "sweep aggregate --cohort",
    }  # fmt: skip
    embed = {
        f"sweep embed --{flag}"
        for flag in (
            "out", "encoder", "checkpoint", "config", "folds", "limit", "device", "workers",
            "cluster",
        )
    } | {"sweep embed -y"}  # fmt: skip
    predict = {
        f"sweep predict --{flag}"
        for flag in (
            "data", "where", "cell", "ensemble", "allow-missing", "allow-seen", "out"
        )
    }  # fmt: skip
    assert flags == start | places | index | embed | predict | others


def test_the_repository_names_no_path_of_a_machine():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    for name in listed.stdout.split("\n"):
        if name.endswith((".py", ".md", ".yaml", ".toml", ".txt", "run", "Makefile")):
            text = (ROOT / name).read_text()
            for word in ("/" + "work/", "/root" + "/", "debian" + ".org", "pypi" + ".org"):
                assert word not in text, f"{name}: {word}"
