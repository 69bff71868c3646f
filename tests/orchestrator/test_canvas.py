"""Figures have the same bytes, names of their own, and take any text as it is."""

import re
import xml.etree.ElementTree as ET

from orchestrator import canvas
from orchestrator.canvas import Figure

HOSTILE = '<b>&"$x^2$ \\alpha 漢字 \u202e'


def figure(name="a"):
    def plot(axes):
        axes.plot([0, 1], [1, 0], label=HOSTILE)
        axes.set_title(HOSTILE)
        axes.legend()

    return Figure(name=name, caption="", alt="", plot=plot)


def test_the_same_figure_gives_the_same_bytes_in_all_forms():
    one, two = figure(), figure()
    forms = one.save("pdf", "png")
    assert one.svg() == two.svg() and forms == two.save("pdf", "png")
    assert b"CreationDate" not in forms[0] and "Date" not in one.svg()


def test_text_of_a_figure_is_text_and_never_markup_or_formula():
    tree = ET.fromstring(figure().svg())
    texts = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count(HOSTILE) == 2


def test_numbers_and_names_in_text_keep_all_their_digits():
    def plot(axes):
        axes.text(0.5, 0.5, "0.123456")
        axes.set_title("lr=0.00312 > 1.23456")

    svg = Figure(name="a", caption="", alt="", plot=plot).svg()
    assert "lr=0.00312 &gt; 1.23456" in svg and ">0.123456<" in svg


def test_ids_of_two_figures_on_a_page_differ_and_references_follow():
    one, two = figure("a").svg(), figure("b").svg()
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert not ids[0] & ids[1]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', one))
    assert used and used <= ids[0]
    assert "width=" not in one[: one.index(">")] and "viewBox" in one[: one.index(">")]


def test_names_of_files_hold_nothing_strange():
    assert canvas.file_name("forest", "../a b/ü", "") == "forest-..a_b-x".replace("..a", ".._a")
    assert re.fullmatch(r"[A-Za-z0-9._-]+", canvas.file_name(HOSTILE, "/etc/passwd"))


def test_more_things_than_colours_are_told_apart_by_their_markers():
    pairs = [(canvas.colour(n), canvas.marker(n)) for n in range(2 * len(canvas.COLOURS))]
    assert len(set(pairs)) == len(pairs)
