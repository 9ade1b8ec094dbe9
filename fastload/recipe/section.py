"""What every section of a recipe has in common: frozen, strict, closed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of keys: frozen, nothing but the declared keys, no conversion between types.

    Every field has a default, except what only the user can know, and the text below it is its description in the
    JSON Schema and in `fastload train --print-config`.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
