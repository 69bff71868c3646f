"""Words for what pydantic finds wrong in a spec: what was found, what was expected."""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from orchestrator.spec_lines import Place

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "path_type": "a path",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "at least {min_length}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "at most {max_length} characters",
}


def place_of(error: ErrorDetails, tree: Any) -> Place:
    """Return where in a tree of plain values an error is, without pydantic's names of alternatives.

    For a missing key, this is the place where it should be; for an unknown kind, that of `kind`.
    """
    place: list[str | int] = []
    for step in error["loc"]:
        if isinstance(tree, dict) and step in tree:
            tree = tree[str(step)]
        elif isinstance(tree, list) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
        elif error["type"] != "missing" or step != error["loc"][-1]:
            continue
        place.append(step)
    return (*place, "kind") if error["type"] == "union_tag_invalid" else tuple(place)


def describe(error: ErrorDetails, place: Place, schema: dict[str, Any]) -> str:
    """Say what was found and what was expected.

    Args:
        error: one of a ValidationError's errors.
        place: where it is.
        schema: JSON Schema of what was validated; it knows the keys and their descriptions.
    """
    found, context = shown(error["input"]), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            key, keys = str(place[-1]), keys_at(schema, place[:-1])
            if key in keys:
                return (
                    f"unknown key for this kind of {place[-2]}; expected another kind, or no {key}"
                )
            return unknown(key, keys)
        case "missing":
            return f"missing; expected {_description(schema, place) or 'a value'}"
        case "union_tag_not_found":
            return "kind is missing; expected one of " + ", ".join(_kinds(schema, place))
        case "union_tag_invalid":
            tag = str(context["tag"])
            return f"found {tag!r}; expected {one_of(tag, _kinds(schema, place[:-1]))}"
        case "literal_error":
            options = str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
            return f"found {found}; expected {one_of(str(error['input']), options)}"
        case "value_error":
            return str(context["error"])
        case kind if kind in _EXPECTED:
            return f"found {found}; expected {_EXPECTED[kind].format(**context)}" + _advice(
                kind, error["input"]
            )
    expected = error["msg"].removeprefix("Input should be ").removeprefix("String should ")
    return f"found {found}; expected {expected[:1].lower()}{expected[1:]}"


def unknown(key: str, keys: Sequence[str]) -> str:
    """Say that a key does not exist, and which one may be meant."""
    near = difflib.get_close_matches(key, keys, n=5, cutoff=0)
    expected = f"one of {', '.join(keys)}" if len(keys) <= 25 else f"for example {', '.join(near)}"
    return f"unknown key; {_meant(key, keys) or f'expected {expected}'}"


def one_of(found: str, options: Sequence[str]) -> str:
    """List what is allowed, and which of it may be meant."""
    meant = _meant(found, options)
    return f"one of {', '.join(options)}" + (f"; {meant}" if meant else "")


def shown(value: Any) -> str:
    """Write a value briefly."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case bool():
            return str(value).lower()
        case list():
            text = json.dumps(value)
        case _:
            text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def keys_at(schema: dict[str, Any], place: Place) -> list[str]:
    """List the keys that a mapping at a place may have, over all kinds."""
    keys = (key for node in _nodes(schema, place) for key in node.get("properties", {}))
    return list(dict.fromkeys(keys))


def _description(schema: dict[str, Any], place: Place) -> str:
    for node in _nodes(schema, place[:-1]):
        field = node.get("properties", {}).get(place[-1], {})
        if "description" in field:
            return str(field["description"])
    return ""


def _kinds(schema: dict[str, Any], place: Place) -> list[str]:
    kinds = (node.get("properties", {}).get("kind", {}) for node in _nodes(schema, place))
    return [kind["const"] for kind in kinds if "const" in kind]


def _nodes(schema: dict[str, Any], place: Place) -> list[dict[str, Any]]:
    """Follow a place through a JSON Schema, along all alternatives."""
    nodes = list(_alternatives(schema, schema))
    for step in place:
        nodes = [
            part
            for node in nodes
            for child in _children(node, step)
            for part in _alternatives(schema, child)
        ]
    return nodes


def _children(node: dict[str, Any], step: str | int) -> Iterable[dict[str, Any]]:
    if isinstance(step, int):
        return [node["items"]] if "items" in node else []
    if step in node.get("properties", {}):
        return [node["properties"][step]]
    more = node.get("additionalProperties")
    return [
        *node.get("patternProperties", {}).values(),
        *([more] if isinstance(more, dict) else []),
    ]


def _alternatives(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in node:
        yield from _alternatives(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
    options = [*node.get("oneOf", []), *node.get("anyOf", [])]
    for option in options:
        yield from _alternatives(schema, option)
    if not options and "$ref" not in node:
        yield node


def _meant(found: str, options: Sequence[str]) -> str:
    near = difflib.get_close_matches(found, options, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""


def _advice(kind: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, int | float):
        return " (write it in quotes)"
    if kind in ("int_type", "float_type") and isinstance(value, str) and value[:1].isdigit():
        return " without quotes"
    return ""
