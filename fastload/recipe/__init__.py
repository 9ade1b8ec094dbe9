"""Recipes: what one training run is, as checked, frozen data."""

from __future__ import annotations

from fastload.recipe.explain import nearest as nearest
from fastload.recipe.reading import dump_yaml as dump_yaml
from fastload.recipe.reading import json_schema as json_schema
from fastload.recipe.reading import load_recipe as load_recipe
from fastload.recipe.reading import parse_recipe as parse_recipe
from fastload.recipe.schema import Recipe as Recipe

__all__ = ["Recipe", "dump_yaml", "json_schema", "load_recipe", "nearest", "parse_recipe"]
