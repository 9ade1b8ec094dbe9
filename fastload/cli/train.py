"""fastload train RECIPE [key=value ...]."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fastload.cli.drawing import Bars, print_json, print_tables, stages


def command(
    recipe: Annotated[str | None, typer.Argument(help="Recipe, a YAML file such as recipes/rn50.yaml.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value pairs that replace what the recipe says: train.epochs=18.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="auto: go on with the last checkpoint if there is one; or a checkpoint's path.")
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the complete recipe and end.")] = False,
    print_schema: Annotated[bool, typer.Option("--print-schema", help="Print the recipe's JSON Schema.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network as a recipe says, in one process or under torchrun in any number of them."""
    from fastload import recipe as recipes

    if print_schema:
        print_json(recipes.json_schema())
        return
    if recipe is None:
        raise typer.BadParameter("expected a recipe, such as recipes/imagenette.yaml", param_hint="RECIPE")
    settings = list(overrides or ())
    if resume is not None:
        settings.append(f"checkpoint.resume={resume}")
    loaded = recipes.load_recipe(recipe, settings)
    if print_config:
        if as_json:
            print_json(loaded.model_dump(mode="json"))
        else:
            typer.echo(recipes.dump_yaml(loaded), nl=False)
        return

    from fastload.cli.training import TrainBars, result_table
    from fastload.train import train

    with Bars() as bars:
        report = train(loaded, progress=TrainBars(bars))
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print_json(report.to_json())
        return
    # Synthetic data pass no stage.
    print_tables(result_table(report), *([stages(report.stages)] if report.stages else []))
    for entry in report.train_account.named + report.eval_account.named:
        print_tables(f"skipped {entry['key']} ({entry['path']}): {entry['reason']}")
