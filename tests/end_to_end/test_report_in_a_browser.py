"""The report in a real Chromium without a window: no error, and tables sort and filter."""

import html
import json
import re
import shutil
import subprocess

import pytest

from orchestrator import report
from tests.orchestrator import finished

CHROMIUM = shutil.which("chromium")
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr",
]  # fmt: skip
HOSTILE = '"<i>&\\"\'$x_1$%{漢"'
SPEC = finished.SPEC.replace("  again: {", f"  {HOSTILE}: {{")
PROBE = """
<script>
const buttons = (box) => [...box.querySelectorAll("th button")];
const click = (box, name) => buttons(box).find((b) => b.textContent === name).click();
const box = document.querySelector("#table-results");
const column = [...box.querySelectorAll("th")].findIndex((th) => th.textContent === "AUROC");
const rows = () => [...box.querySelectorAll("tbody tr")];
const keys = () => rows().map((row) => Number(row.cells[column].dataset.key));
click(box, "AUROC");
const down = keys();
const sorted = box.querySelector("th[aria-sort=descending]").textContent;
click(box, "AUROC");
const up = keys();
const differences = document.querySelector("#table-differences");
const input = differences.querySelector("input");
input.value = "inconsistency score";
input.dispatchEvent(new Event("input"));
const shown = [...differences.querySelectorAll("tbody tr")].filter((row) => !row.hidden);
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.title = JSON.stringify({down, up, sorted, wide, shown: shown.map((row) => row.textContent),
  said: differences.querySelector("output").textContent});
</script>
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="there is no chromium here: apt-get install chromium"
    ),
]


def browse(page, home, *flags):
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={home / 'profile'}", *flags, page.as_uri()],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, console


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    home = tmp_path_factory.mktemp("browser")
    folder = finished.train(finished.planned(finished.write_spec(home, text=SPEC), home / "r"))
    given = {"allow_missing": False, "bundled": False, "draws": 50, "mode": "quiet"}
    assert report.write(folder, out=home, **given) == 0
    return home / "report.html"


@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_draws_without_errors_and_is_not_wider_than_the_screen(page, tmp_path, width):
    shot = tmp_path / "shot.png"
    _, console = browse(page, tmp_path, f"--window-size={width},2000", f"--screenshot={shot}")
    assert console == [] and shot.stat().st_size > 50_000


def test_tables_sort_and_filter_from_the_keyboard(page, tmp_path):
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    dom, console = browse(probed, tmp_path, "--window-size=500,2000", "--dump-dom")
    assert console == []
    told = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom)[1]))
    assert told["down"] == sorted(told["down"], reverse=True) and told["up"] == sorted(told["up"])
    assert len(told["up"]) == 4 and told["sorted"].startswith("AUROC")
    assert len(told["shown"]) == 2 and all("inconsistency" in row for row in told["shown"])
    assert told["said"].startswith("2 of ")
    assert told["wide"] <= 0


def test_names_with_markup_are_text_in_the_page(page, tmp_path):
    dom, console = browse(page, tmp_path, "--dump-dom")
    assert console == [] and "<i>" not in dom and "&lt;i&gt;&amp;" in dom


def test_the_page_prints(page, tmp_path):
    printed = tmp_path / "report.pdf"
    _, console = browse(page, tmp_path, f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    assert console == [] and printed.read_bytes().startswith(b"%PDF")
