"""fastload inspect DATASET."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fastload.cli.caching import CacheBytes, CacheDir, cache_options
from fastload.cli.drawing import Bars, print_json, print_tables
from fastload.errors import ConfigError


def command(
    dataset: Annotated[
        str, typer.Argument(help="What fastload convert wrote (or its URL), a folder of images, or a .beton file.")
    ],
    html: Annotated[
        str | None, typer.Option(help="Write a page with everything: one file, without scripts or requests.")
    ] = None,
    png: Annotated[str | None, typer.Option(help="Write a contact sheet of samples.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe (.yaml): also draw and count what its transforms make of the images.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what the recipe's transforms are compiled to; reads no images.")
    ] = False,
    sample: Annotated[int, typer.Option(min=0, help="Images to read at most, drawn at random; 0 reads all.")] = 2000,
    images: Annotated[int, typer.Option(min=1, max=500, help="Samples on the contact sheet.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Of the random sample.")] = 0,
    cache_dir: CacheDir = None,
    cache_bytes: CacheBytes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Show what is in a data set: counts, classes, sizes, coding, duplicates, decode cost, and samples.

    Samples and classes are counted exactly; what takes reading images is found on a random sample of them. Nothing of
    the data set is changed.
    """
    if plan and recipe is None:
        raise ConfigError("--plan explains the transforms of a recipe: give one with --recipe")
    from fastload.cli.inspecting import inspection_tables, plan_tables
    from fastload.inspect import inspect_dataset, write_html, write_png
    from fastload.inspect.plan import explain_recipe
    from fastload.inspect.run import take_pictures
    from fastload.recipe import load_recipe

    cache = cache_options(cache_dir, cache_bytes)
    loaded = load_recipe(recipe) if recipe is not None else None
    plans = explain_recipe(loaded, dataset, seed=seed) if loaded is not None else ()
    result: dict[str, Any] = {"plans": [chain.to_json() for chain in plans]} if plans else {}
    if plan:
        _show(result, plan_tables(plans), as_json)
        return
    with Bars() as progress:
        found = inspect_dataset(dataset, sample=sample, seed=seed, recipe=loaded, progress=progress.update, **cache)
        if html or png:
            pictures = take_pictures(
                dataset, count=images, sample=sample, seed=seed, recipe=loaded, progress=progress.update, **cache
            )
            if html:
                write_html(html, found, pictures, plans)
            if png:
                write_png(png, found, pictures)
    written = {name: path for name, path in (("html", html), ("png", png)) if path}
    tables = [*inspection_tables(found), *(["", *plan_tables(plans)] if plans else [])]
    tables += [f"written: {path}" for path in written.values()]
    _show({**found.to_json(), **result, "written": written}, tables, as_json)


def _show(result: dict[str, Any], tables: list[Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        print_tables(*tables)
