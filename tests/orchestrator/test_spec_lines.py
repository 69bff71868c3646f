import pytest

from orchestrator import spec_lines
from orchestrator.errors import SpecError
from tests.orchestrator.specs import write


def tree(folder, text):
    source = spec_lines.load(write(folder, text))
    assert not source.problems
    return source.tree


def refused(folder, text):
    with pytest.raises(SpecError) as caught:
        spec_lines.load(write(folder, text)).refuse()
    return caught.value.message.replace(f"{folder}/", "")


def test_numbers_may_be_written_as_people_write_them(tmp_path):
    found = tree(tmp_path, "a: [1e-3, 5E4, .5, 1., -2, +3, 007, 1e-3.5, 1_000, 1:30, 0x1F]")
    assert found["a"] == [0.001, 5e4, 0.5, 1.0, -2, 3, 7, "1e-3.5", "1_000", "1:30", "0x1F"]


def test_yes_no_on_off_and_dates_are_text_and_keys_always_are(tmp_path):
    found = tree(tmp_path, "no: off\non: [yes, 'true', true, null, 2024-01-01]\n1: ~")
    assert found == {"no": "off", "on": ["yes", "true", True, None, "2024-01-01"], "1": None}


def test_quotes_make_text(tmp_path):
    assert tree(tmp_path, "a: ['1', \"1e-3\"]") == {"a": ["1", "1e-3"]}


def test_lines_are_those_of_keys_and_items(tmp_path):
    source = spec_lines.load(write(tmp_path, "a:\n  b: 1\n  c:\n    - 1\n    - d: 2\n"))
    assert source.line_of(("a", "b")) == 2
    assert source.line_of(("a", "c", 1, "d")) == 5
    assert source.line_of(("a", "c", 9, "x")) == 3
    assert source.line_of(("elsewhere",)) == 1


def test_anchors_aliases_and_merge_keys_work(tmp_path):
    text = "base: &b {x: 1, y: 2}\na: *b\nc: {<<: *b, y: 3}\nd: {<<: [{x: 5}, *b]}\n"
    found = tree(tmp_path, text)
    assert found["a"] == {"x": 1, "y": 2}
    assert found["c"] == {"x": 1, "y": 3}
    assert found["d"] == {"x": 5, "y": 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "small.yaml:1: the file is empty; expected a sweep spec"),
        ("# only a comment\n", "small.yaml:1: the file is empty; expected a sweep spec"),
        ("- a\n", "small.yaml:1: found a list; expected keys and values"),
        ("uni\n", "small.yaml:1: found 'uni'; expected keys and values"),
        ("a: 1\nb:\n\t- x\n", "small.yaml:3: not YAML: found a tab"),
        ("a: 1\nb: [1, 2\nc: 3\n", "small.yaml:3: not YAML: "),
        ("a: 1\n---\nb: 2\n", "small.yaml:2: not YAML: "),
        ("a: *gone\n", "small.yaml:1: not YAML: found undefined alias"),
        ("a: 1\nb: 2\na: 3\n", "small.yaml:3: a: given twice, first on line 1; expected once"),
        ("x:\n  a: 1\n  a: 1\n", "small.yaml:3: x.a: given twice, first on line 2; expected once"),
        ("a: !!python/name:os.system x\n", "small.yaml:1: a: found the tag"),
        ("a: !mine x\n", "small.yaml:1: a: found the tag '!mine'"),
        ("a: &a [1, *a]\n", "small.yaml:1: a[1]: found an alias inside what it stands for"),
        ("? [a, b]\n: 1\n", "small.yaml:1: the key is a list or a mapping; expected text"),
        ("a: {<<: 3}\n", "small.yaml:1: a: << is followed by something else"),
        ("a: \x07\n", "small.yaml:1: not YAML: character"),
    ],
)
def test_what_is_no_spec_is_refused_with_its_line(tmp_path, text, expected):
    assert refused(tmp_path, text).startswith(expected)


def test_a_missing_file_names_the_specs_beside_it(tmp_path):
    write(tmp_path, "a: 1", name="full.yaml")
    with pytest.raises(SpecError) as caught:
        spec_lines.load(tmp_path / "ful.yaml")
    assert "No such file" in caught.value.message
    assert str(tmp_path / "full.yaml") in caught.value.hint


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(SpecError, match="not UTF-8"):
        spec_lines.load(tmp_path / "a.yaml")
