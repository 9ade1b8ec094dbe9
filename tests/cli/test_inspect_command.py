"""fastload inspect as a user runs it."""

import json

import pytest
import yaml
from PIL import Image

from tests.command_line import run


@pytest.fixture(scope="module")
def zoo_for_commands(tmp_path_factory):
    """Five images of two classes, one with a name that rich would take for markup, and a recipe."""
    folder = tmp_path_factory.mktemp("zoo")
    for place, name in enumerate(("[red]x", "b")):
        (folder / name).mkdir()
        for number in range(2 + place):
            Image.new("RGB", (64, 48), (90 * place, 40, 80 * number)).save(folder / name / f"{number}.jpg")
    recipe = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"data": {"train": "-", "val": "-"}, "resolution": {"min": 32}}))
    return folder, recipe


def test_json_page_and_sheet_in_one_go(zoo_for_commands, tmp_path):
    folder, recipe = zoo_for_commands
    page, sheet = tmp_path / "report.html", tmp_path / "sheet.png"
    done = run("inspect", folder, "--recipe", recipe, "--html", page, "--png", sheet, "--json")
    found = json.loads(done.stdout)
    assert (found["samples"], found["classes"]["names"]) == (5, ["[red]x", "b"])
    assert found["plans"][0]["passes"] == 1
    assert found["written"] == {"html": str(page), "png": str(sheet)}
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    with Image.open(sheet) as image:
        assert image.format == "PNG"
    text = run("inspect", folder).stdout
    assert "[red]x" in text
    assert "Width" in text


def test_plan_alone_and_mistakes(zoo_for_commands, tmp_path):
    folder, recipe = zoo_for_commands
    plan = json.loads(run("inspect", folder, "--recipe", recipe, "--plan", "--json").stdout)
    assert [chain["name"] for chain in plan["plans"]] == ["training, epoch 0", "evaluation"]
    assert "--recipe" in run("inspect", folder, "--plan", check=1).stderr
    assert "nothing at this path" in run("inspect", tmp_path / "missing", check=1).stderr
    done = run("inspect", folder, "--html", tmp_path / "no" / "x.html", check=1)
    assert "cannot be written" in done.stderr
