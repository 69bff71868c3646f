from pathlib import Path

import pytest

from orchestrator import tail
from orchestrator.tail import Tail


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a log.txt"


def test_the_last_lines_of_a_short_file(path):
    path.write_text("a\nb\nc\n")
    assert tail.last_lines(path, 2) == ["b", "c"]
    assert tail.last_lines(path, 9) == ["a", "b", "c"]
    path.write_text("a\n\nb")
    assert tail.last_lines(path, 3) == ["a", "", "b"]
    path.write_text("")
    assert tail.last_lines(path, 3) == []


def test_a_line_that_the_limit_cuts_is_left_out(path):
    path.write_text("first line\nsecond\nthird\n")
    assert tail.last_lines(path, 9, limit_bytes=14) == ["second", "third"]
    assert tail.last_lines(path, 9, limit_bytes=13) == ["second", "third"][1:]


def test_of_a_large_file_only_the_end_is_read(path):
    with path.open("wb") as file:
        file.seek(100 * 2**20)
        file.write(b"\nthe end\n")
    before = _bytes_read()
    assert tail.last_lines(path, 1) == ["the end"]
    assert _bytes_read() - before < tail.LIMIT_BYTES + 2**16


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def test_new_lines_come_once_and_whole(path):
    reader = Tail()
    assert reader.read(path) == []
    path.write_text("a\nb")
    assert reader.read(path) == ["a"]
    assert reader.read(path) == []
    with path.open("a") as file:
        file.write("c\n\xe9\n")
    assert reader.read(path) == ["bc", "é"]


def test_what_a_file_held_can_be_skipped(path):
    path.write_text("old\n")
    reader = Tail()
    reader.skip(path)
    with path.open("a") as file:
        file.write("new\n")
    assert reader.read(path) == ["new"]


def test_a_file_that_began_anew_is_read_from_its_start(path):
    path.write_text("a long first line\n")
    reader = Tail()
    reader.read(path)
    path.write_text("b\n")
    assert reader.read(path) == ["b"]


def test_much_news_comes_in_parts_and_without_loss(path):
    lines = [f"{number:060d}" for number in range(150_000)]
    path.write_text("\n".join(lines) + "\n")
    reader, found = Tail(), []
    while part := reader.read(path):
        found += part
    assert found == lines


def test_a_line_longer_than_a_look_comes_whole_when_it_is_whole(path, monkeypatch):
    monkeypatch.setattr(tail, "LIMIT_BYTES", 10)
    reader = Tail()
    path.write_text("x" * 35)
    assert reader.read(path) == []
    path.write_text("x" * 35 + "\ny\n")
    assert [*reader.read(path), *reader.read(path)] == ["x" * 35, "y"]


def test_text_that_is_no_utf8_is_shown_all_the_same(path):
    path.write_bytes(b"\xff\xfe\n")
    assert len(tail.last_lines(path, 1)) == 1
