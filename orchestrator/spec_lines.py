"""YAML with line numbers, and problems that name them.

Reads the JSON-like core of YAML 1.2, in which `no` is text and `1e-3` a number, whereas the older
YAML that PyYAML resolves makes a boolean of the first and text of the second. Keys are always text.
Tags are refused; anchors, aliases and the merge key `<<` work.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import SpecError

Place = tuple[str | int, ...]
"""Keys and list positions that lead from the top of a spec to a value."""

HINT = "sweeps/README.md describes every key"

MAX_BYTES = 2**20
"""Size of a file that is read at all; a spec of every feature has a hundredth of it."""

MAX_VALUES = 200_000
"""Values of a file, with what its aliases stand for written out each time."""

_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "str", "timestamp", "merge", "value", "map", "seq")
}
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan")


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong at a line; the text says what was found and what was expected."""

    line: int
    key: str
    text: str


@dataclass(slots=True)
class Source:
    """A spec's file as a tree of plain values, the line of every value, and problems so far."""

    file: str
    tree: dict[str, Any] = field(default_factory=dict)
    lines: dict[Place, int] = field(default_factory=dict)
    problems: set[Problem] = field(default_factory=set)

    def report(self, place: Place, text: str) -> None:
        """Note a problem at the line of a value, or of what would hold it."""
        self.problems.add(Problem(self.line_of(place), dotted(place), text))

    def line_of(self, place: Place) -> int:
        """Return the line of a value, or of the nearest one above it that exists."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def say(self, place: Place, text: str) -> str:
        """Write a remark about a value in the form of a problem."""
        return f"{self.file}:{self.line_of(place)}: {dotted(place)}: {text}"

    def refuse(self) -> None:
        """Raise what was reported, if anything.

        Raises:
            SpecError: lists every problem, in the order of the file.
        """
        if self.problems:
            raise refusal(self.file, sorted(self.problems))


def refusal(file: str, problems: Iterable[Problem]) -> SpecError:
    """Put problems of a file into one error, one a line."""
    lines = [
        f"{file}:{problem.line}: {problem.key + ': ' if problem.key else ''}{problem.text}"
        for problem in problems
    ]
    return SpecError("\n".join(lines), hint=HINT)


def dotted(place: Place) -> str:
    """Write a place as a reader would: `arms.score.grid.optim.lr[2]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return text.removeprefix(".") if text.isprintable() else repr(text.removeprefix("."))


def load(path: Path) -> Source:
    """Read a YAML file whose top is a mapping.

    Keys that are given twice and tags are reported in the result's problems.

    Raises:
        SpecError: the file cannot be read, is not YAML, is empty, or holds something else.
    """
    source = Source(str(path))
    node = _compose(path)
    if node is None:
        raise refusal(source.file, [Problem(1, "", "the file is empty; expected a sweep spec")])
    if not isinstance(node, yaml.MappingNode):
        found = "a list" if isinstance(node, yaml.SequenceNode) else repr(node.value)
        raise refusal(source.file, [Problem(1, "", f"found {found}; expected keys and values")])
    source.tree = _Reader(source).mapping(node, ())
    return source


def _compose(path: Path) -> yaml.Node | None:
    try:
        with path.open("rb") as file:  # not whole: it may be a device without an end
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            text = f"{path}: more than {MAX_BYTES >> 20} MiB; expected a sweep spec"
            raise SpecError(text, hint=HINT)
        return yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except RecursionError as error:
        raise SpecError(f"{path}: nested too deeply; expected a sweep spec") from error
    except OSError as error:
        near = ", ".join(str(other) for other in sorted(path.parent.glob("*.yaml")))
        hint = f"specs in that folder: {near}" if near else "give the path of a sweep spec"
        raise SpecError(f"{path}: {error.strerror}; expected a sweep spec", hint=hint) from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 text: {error.reason}", hint=HINT) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        text = str(error.problem)
        if "'\\t'" in text:
            text = "found a tab; YAML takes only spaces for indentation"
        elif error.context:
            text = f"{text} ({error.context})"
        line = mark.line + 1 if mark else 1
        raise refusal(str(path), [Problem(line, "", f"not YAML: {text}")]) from error
    except yaml.reader.ReaderError as error:
        text = f"not YAML: character {error.character!r} is not allowed"
        raise refusal(str(path), [Problem(1, "", text)]) from error


class _Reader:
    """Turns YAML nodes into plain values and notes lines in a source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.open: set[int] = set()
        self.num_values = 0

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged |= self.merge(value_node, place)
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                text = "the key is a list or a mapping; expected text"
                self.source.problems.add(Problem(line, dotted(place), text))
                continue
            key = self.text(key_node.value, place)
            if key in own:
                text = f"given twice, first on line {first[key]}; expected once"
                self.source.problems.add(Problem(line, dotted((*place, key)), text))
                continue
            first[key] = self.source.lines[*place, key] = line
            own[key] = self.value(value_node, (*place, key))
        return merged | own

    def merge(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in reversed(nodes):
            value = self.value(part, place)
            if isinstance(value, dict):
                merged |= value
            else:
                text = "<< is followed by something else; expected a mapping"
                self.source.problems.add(Problem(node.start_mark.line + 1, dotted(place), text))
        return merged

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.num_values += 1
        if self.num_values > MAX_VALUES:
            text = f"more than {MAX_VALUES:,} values, aliases written out; expected a sweep spec"
            raise refusal(
                self.source.file, [Problem(node.start_mark.line + 1, dotted(place), text)]
            )
        if node.tag not in _PLAIN_TAGS:
            self.source.report(place, f"found the tag {node.tag!r}; expected a value without tags")
            return None
        if isinstance(node, yaml.ScalarNode):
            text = self.text(node.value, place)
            return _scalar(text) if node.style is None else text
        if id(node) in self.open:
            self.source.report(place, "found an alias inside what it stands for; expected a value")
            return None
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, place)
            for number, item in enumerate(node.value):
                self.source.lines[*place, number] = item.start_mark.line + 1
            return [self.value(item, (*place, number)) for number, item in enumerate(node.value)]
        finally:
            self.open.discard(id(node))

    def text(self, text: str, place: Place) -> str:
        """Report and replace halves of characters, which no file name and no JSON can hold."""
        whole = text.encode("utf-8", "replace").decode()
        if whole != text:
            self.source.report(place, f"found half a character in {whole!r}; expected whole ones")
        return whole


def _scalar(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    return text
