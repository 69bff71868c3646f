"""The README tells the truth: commands parse, links exist, the demo prints the table shown."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from orchestrator.cli import cli
from orchestrator.failures import POLICIES
from tests.end_to_end.sweeps import sweep

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *ROOT.glob("*/README.md")]
COLUMNS = ("auroc", "inconsistency", "flip_rate")


def blocks(page):
    return re.findall(r"^```\w*\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands():
    lines = [line for page in PAGES for block in blocks(page) for line in block.splitlines()]
    return sorted({line.split("#")[0].strip() for line in lines if line.startswith("sweep ")})


@pytest.mark.parametrize("line", commands())
def test_every_sweep_command_that_a_page_shows_is_accepted_by_the_parser(line):
    words = shlex.split(line)[1:]
    context = click.Context(cli)
    _, command, rest = cli.resolve_command(context, words)
    while isinstance(command, click.Group):
        _, command, rest = command.resolve_command(context, rest)
    command.make_context("sweep", rest, resilient_parsing=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_make_target_that_a_page_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"\bmake ([a-z-]+)", "\n".join(blocks(page))):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_table_of_failures_is_the_policy():
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    shown = {}
    for kind, rest in rows:
        _, _, attempts, again = (cell.strip() for cell in rest.split("|"))
        shown[kind] = (None if attempts == "any" else int(attempts), again != "yes")
    assert shown == {k: (policy.attempts, policy.permanent) for k, policy in POLICIES.items()}


def rows_of(text):
    """Read a printed table: the words of each row."""
    lines = (line.split() for line in text.splitlines())
    return [words for words in lines if words and words[0] in ("fragile", "sturdy")]


@pytest.mark.slow
def test_the_demo_prints_the_table_of_the_readme(tmp_path):
    sweep("launch", ROOT / "sweeps" / "demo.yaml", "--results", tmp_path, timeout=600)
    printed = sweep("aggregate", "demo", "--results", tmp_path).stdout
    readme = (ROOT / "README.md").read_text()
    promised = rows_of(readme[readme.index("<!-- demo table -->") : readme.index("<!-- end -->")])
    header, rows = printed.splitlines()[0].split("\t"), rows_of(printed)
    assert len(rows) == len(promised) == 10
    for row, wanted in zip(rows, promised, strict=True):
        assert len(row) == len(wanted) == len(header)
        assert row[:3] == wanted[:3]
        for column in COLUMNS:
            position = header.index(column)
            # Another kind of CPU rounds differently, and training amplifies it.
            assert float(row[position]) == pytest.approx(float(wanted[position]), rel=0.2, abs=0.05)


def test_make_knows_when_nothing_is_to_be_done():
    done = subprocess.run(["make", "-n", "demo"], capture_output=True, text=True, cwd=ROOT)
    assert "sweep launch sweeps/demo.yaml" in done.stdout
