"""What is wrong with a recipe, in sentences: the path of each wrong key, what was expected, the nearest valid key."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fastload.recipe.schema import Recipe


def explain(error: ValidationError, origin: str) -> str:
    """One message for all the errors of a validation."""
    by_path: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=True):
        path = _path(item["loc"])
        # A value that fits no branch of a union is reported once for each branch.
        by_path.setdefault(path, _sentence(path, item))
    # A list with a wrong item is reported for the item and for the list; the item says it best.
    sentences = [text for path, text in by_path.items() if not any(other.startswith(f"{path}.") for other in by_path)]
    if len(sentences) == 1:
        return f"{origin}: {sentences[0]}"
    return f"{origin}: {len(sentences)} entries are wrong:" + "".join(f"\n  {sentence}" for sentence in sentences)


def nearest(word: str, candidates: Sequence[str]) -> str:
    """``; did you mean 'x'?`` with the nearest candidate, or the candidates themselves if none is near."""
    close = _same_tail(word, candidates) or difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    if not close:  # a mistyped last part: compare without the sections
        tails = {candidate.rsplit(".", 1)[-1]: candidate for candidate in candidates}
        close = [tails[tail] for tail in difflib.get_close_matches(word.rsplit(".", 1)[-1], list(tails), n=1)]
    if close:
        return f"; did you mean {close[0]}?"
    return f"; valid are {', '.join(candidates)}" if len(candidates) <= 30 else ""


def _same_tail(word: str, candidates: Sequence[str]) -> list[str]:
    tail = word.rsplit(".", 1)[-1]
    return [candidate for candidate in candidates if candidate.rsplit(".", 1)[-1] == tail]


@functools.cache
def all_keys() -> tuple[str, ...]:
    """Every dotted key of a recipe, sections included."""
    return tuple(dict.fromkeys(_keys_below(Recipe, "")))


def _keys_below(model: type[BaseModel], prefix: str) -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for section in _sections(field.annotation):
            keys.extend(_keys_below(section, f"{prefix}{name}."))
    return keys


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def _path(loc: Sequence[int | str]) -> str:
    """The dotted path as the user wrote it: without the tags that pydantic puts in for the branches of unions."""
    parts: list[str] = []
    fields: list[type[BaseModel]] = [Recipe]
    for part in loc:
        known = [model.model_fields[part] for model in fields if isinstance(part, str) and part in model.model_fields]
        if known:
            fields = [section for field in known for section in _sections(field.annotation)]
        elif isinstance(part, str) and fields and parts and any(_tag(model) == part for model in fields):
            fields = [model for model in fields if _tag(model) == part]
            continue
        elif isinstance(part, str) and _is_branch(part):
            continue
        parts.append(str(part))
    return ".".join(parts)


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("name")
    values = get_args(field.annotation) if field is not None else ()
    return str(values[0]) if len(values) == 1 else None


def _is_branch(part: str) -> bool:
    return part in ("str", "float", "int", "bool", "none") or any(mark in part for mark in ("[", "constrained"))


def _siblings(path: str) -> list[str]:
    section = path.rpartition(".")[0]
    prefix = f"{section}." if section else ""
    return [key for key in all_keys() if key.startswith(prefix) and "." not in key[len(prefix) :]]


def hint_for_key(path: str) -> str:
    """The same key in another section (train.lr: optimizer.lr), else a near one in this section, else anywhere."""
    siblings = _siblings(path)
    for candidates in (_same_tail(path, all_keys()), siblings, all_keys()):
        hint = nearest(path, candidates) if candidates else ""
        if "did you mean" in hint:
            return hint
    return nearest(path, siblings)


def _sentence(path: str, item: Any) -> str:
    kind, got = item["type"], item.get("input")
    if kind == "extra_forbidden":
        return f"{path}: unknown key{hint_for_key(path)}"
    if kind == "missing":
        return f"{path}: missing; it has no default"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        expected = str(item["ctx"].get("expected_tags", "piecewise, cosine, step, one_cycle, constant"))
        names = [name.strip(" '") for name in expected.split(",")]
        tag = item["ctx"].get("tag")
        if tag is None:
            return f"{path}.name: missing; valid are {', '.join(names)}"
        return f"{path}.name: got {tag!r}{nearest(str(tag), names)}"
    if kind == "literal_error":
        names = [name.strip(" '") for name in str(item["ctx"]["expected"]).replace(" or ", ",").split(",")]
        hint = nearest(got, names) if isinstance(got, str) else f"; valid are {', '.join(names)}"
        return f"{path}: got {got!r}{hint}"
    message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error":
        return f"{path}: {message}"
    return f"{path}: {message}, got {_short(got)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
