"""From YAML and key=value overrides to a Recipe, and from a Recipe back to YAML."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fastload.errors import ConfigError
from fastload.recipe.explain import explain, hint_for_key
from fastload.recipe.schema import Recipe


class _Loader(yaml.SafeLoader):
    """YAML without its two traps: a key given twice is an error, and 1e-4 is a number (as in YAML 1.2)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"a key must be text, got {key!r}", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is given twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        path: YAML file.
        overrides: ``key=value`` each, as on the command line: a dotted key (list items by number) and a YAML value,
            such as ``train.epochs=18`` or ``schedule={name: cosine}``. They replace what the file says.

    Raises:
        ConfigError: The file cannot be read, or keys, types or ranges are wrong: one error that lists them all.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recipe {path} cannot be read: {error}") from error
    return parse_recipe(_parse_yaml(text, str(path)), overrides, origin=str(path))


def parse_recipe(data: Any, overrides: Sequence[str] = (), *, origin: str = "recipe") -> Recipe:
    """As :func:`load_recipe`, from a mapping as YAML would give it. ``origin`` begins the message of an error."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{origin}: a recipe is a mapping of sections such as data and train, got {data!r}")
    # A deep copy in plain lists and dicts: overrides must not write into the caller's data.
    merged = json.loads(_to_json(data, origin))
    for override in overrides:
        _apply(merged, override, origin)
    try:
        # JSON mode: lists stand for tuples, everything else is strict.
        return Recipe.model_validate_json(_to_json(merged, origin))
    except ValidationError as error:
        raise ConfigError(explain(error, origin)) from None


def dump_yaml(recipe: Recipe) -> str:
    """The complete recipe, defaults included, as YAML that :func:`load_recipe` reads back to an equal one."""
    return yaml.dump(recipe.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe, with a description, a range and a default for each key."""
    schema = Recipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class _Dumper(yaml.SafeDumper):
    """YAML with short lists on one line."""


def _dump_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    plain = all(not isinstance(value, dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)


_Dumper.add_representer(list, _dump_list)


def _parse_yaml(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{origin}: not valid YAML: {' '.join(str(error).split())}") from None


def _to_json(data: Any, origin: str) -> str:
    try:
        return json.dumps(data)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{origin}: a recipe holds text, numbers, true/false, lists and mappings only: {error}"
        ) from None


def _apply(data: dict[str, Any], override: str, origin: str) -> None:
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator or not key:
        raise ConfigError(f"an override is written key=value, such as train.epochs=18, got {override!r}")
    value = _parse_yaml(text, f"the override {override!r}")
    target: Any = data
    parts = key.split(".")
    if len(parts) > 1:  # what the file leaves out is what the defaults say, also for `transforms.train.0`
        defaults = _defaults().get(parts[0])
        section = target.setdefault(parts[0], copy.deepcopy(defaults) if isinstance(defaults, dict) else {})
        if isinstance(section, dict) and len(parts) > 2 and isinstance(defaults, dict) and parts[1] in defaults:
            section.setdefault(parts[1], copy.deepcopy(defaults[parts[1]]))
    for depth, part in enumerate(parts[:-1]):
        target = _descend(target, part, ".".join(parts[: depth + 1]), override)
    last = parts[-1]
    if isinstance(target, list):
        target[_index(target, last, key, override)] = value
    elif len(parts) == 1 and last not in Recipe.model_fields:
        raise ConfigError(f"{origin}: {key}: unknown key{hint_for_key(key)}")
    else:
        target[last] = value


def _defaults() -> dict[str, Any]:
    return {
        name: field.get_default().model_dump(mode="json")
        for name, field in Recipe.model_fields.items()
        if not field.is_required()
    }


def _descend(target: Any, part: str, path: str, override: str) -> Any:
    """The container below ``target``; missing and null ones are made (``train.ema.decay=0.99`` switches EMA on)."""
    if isinstance(target, list):
        position = _index(target, part, path, override)
        if isinstance(target[position], str):  # a transform without arguments
            target[position] = {target[position]: {}}
        child = target[position]
    else:
        if target.get(part) is None:
            target[part] = {}
        child = target[part]
    if not isinstance(child, dict | list):
        raise ConfigError(f"the override {override!r} goes below {path}, which is {child!r} and holds no keys")
    return child


def _index(target: list[Any], part: str, path: str, override: str) -> int:
    if not part.isdecimal() or int(part) >= len(target):
        raise ConfigError(
            f"the override {override!r}: {path}: a list of {len(target)} items takes a number from 0 to "
            f"{len(target) - 1}, got {part!r}"
        )
    return int(part)
