"""Recipes: what is accepted, what is refused and how it is said, and the ones that we ship."""

import json
from pathlib import Path

import pytest
import yaml

from fastload.errors import ConfigError
from fastload.recipe import Recipe, dump_yaml, json_schema, load_recipe, parse_recipe

MINIMAL = {"data": {"train": "a", "val": "b"}}
SHIPPED = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def refusal(*overrides, data=MINIMAL):
    with pytest.raises(ConfigError) as caught:
        parse_recipe(data, overrides)
    return str(caught.value)


def test_recipes_are_found():
    assert {path.stem for path in SHIPPED} >= {"rn50", "rn50_88", "rn18", "imagenette"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_load_and_are_documented(path):
    recipe = load_recipe(path, ["data.train=x", "data.val=y"])
    assert (recipe.data.train, recipe.data.val) == ("x", "y")
    assert path.name in (path.parent / "README.md").read_text(encoding="utf-8")


def test_rn50_is_ffcvs_recipe():
    # libffcv/ffcv-imagenet, rn50_configs/rn50_16_epochs.yaml and train_imagenet.py.
    recipe = load_recipe(next(path for path in SHIPPED if path.stem == "rn50"))
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.label_smoothing) == (16, 512, 0.1)
    assert (recipe.optimizer.lr, recipe.optimizer.lr_batch, recipe.optimizer.weight_decay) == (1.7, 8 * 512, 1e-4)
    assert recipe.optimizer.args == {"momentum": 0.9}
    assert (recipe.resolution.min, recipe.resolution.max) == (160, 192)
    assert (recipe.resolution.ramp_start, recipe.resolution.ramp_end) == (11, 13)
    assert (recipe.eval.size, recipe.eval.crop_ratio, recipe.eval.flip) == (256, 224 / 256, True)
    assert recipe.model.blurpool
    assert recipe.model.name == "resnet50"


@pytest.mark.parametrize(
    ("override", "path", "expectation"),
    [
        ("train.epocs=3", "train.epocs", "did you mean train.epochs?"),
        ("epochs=3", "epochs", "did you mean train.epochs?"),
        ("train.lr=0.1", "train.lr", "did you mean optimizer.lr?"),
        ("traim.epochs=3", "traim", "did you mean train?"),
        ("schedule.wramup_epochs=1", "schedule.wramup_epochs", "did you mean schedule.warmup_epochs?"),
        ("schedule.name=cosin", "schedule.name", "did you mean cosine?"),
        ("train.epochs=0", "train.epochs", "greater than or equal to 1, got 0"),
        ("train.epochs=1.5", "train.epochs", "valid integer, got 1.5"),
        ("train.epochs=true", "train.epochs", "valid integer, got True"),
        ('train.epochs="3"', "train.epochs", "valid integer, got '3'"),
        ("train.amp=fp8", "train.amp", "valid are auto, off, bf16, fp16"),
        ("train.clip_norm=.inf", "train.clip_norm", "finite number"),
        ("transforms.train=[3]", "transforms.train.0", "got 3"),
        ("transforms.train.9=Resize", "transforms.train.9", "a list of 2 items"),
        ("resolution={min: 128, max: 64}", "resolution", "max must be at least min (128), got 64"),
        ("schedule={name: piecewise, points: [[0, 1], [2, 1], [1, 0]]}", "schedule", "must rise"),
        ("schedule={name: piecewise, points: [[0, 1], [stop, 0]]}", "schedule.points.1.0", "'stop'"),
        ("schedule={final: 1}", "schedule.name", "missing; valid are piecewise"),
        ("data.train.x=1", "data.train", "holds no keys"),
        ("optimizer=3", "optimizer", "got 3"),
    ],
)
def test_a_wrong_entry_is_one_error_with_its_path(override, path, expectation):
    message = refusal(override)
    assert path in message
    assert expectation in message
    assert "\n" not in message


def test_several_wrong_entries_are_one_error_that_lists_them():
    message = refusal("train.epochs=0", "optimizer.lr=-1", "eval.siz=3")
    assert message.startswith("recipe: 3 entries are wrong:")
    assert all(path in message for path in ("train.epochs", "optimizer.lr", "eval.siz"))


def test_a_missing_section_names_what_is_missing():
    assert "data: missing" in refusal(data={})
    assert "data.val: missing" in refusal(data={"data": {"train": "x"}})


def test_every_wrong_key_of_every_section_is_refused():
    for name, field in Recipe.model_fields.items():
        if name != "schedule":
            assert f"{name}.no_such_key" in refusal(f"{name}.no_such_key=1"), field


@pytest.mark.parametrize("text", ["train: [1, 2", "train: {a: 1}\ntrain: {b: 2}\n", "1: 2", "- a", "a: &x [*x]"])
def test_bad_yaml_is_one_error(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_recipe(path)


def test_a_missing_file_and_a_bad_override_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    for override in ("train.epochs", "=3", "x"):
        assert "key=value" in refusal(override)
    assert "not valid YAML" in refusal("data.train=[a, b")


def test_overrides_reach_defaults_lists_and_missing_sections():
    recipe = parse_recipe(
        MINIMAL,
        [
            "optimizer.lr=1e-4",
            "train.ema.decay=0.9",
            "schedule.final=0.5",
            "transforms.train.0.RandomResizedCrop.scale=[0.5, 1]",
            "model.freeze=[layer1.*]",
        ],
    )
    assert recipe.optimizer.lr == 1e-4
    assert recipe.train.ema is not None
    assert recipe.train.ema.decay == 0.9
    assert recipe.schedule.model_dump() == {"name": "cosine", "warmup_epochs": 0.0, "warmup_start": 0.0, "final": 0.5}
    assert recipe.transforms.train == ({"RandomResizedCrop": {"scale": [0.5, 1]}}, "RandomHorizontalFlip")
    assert recipe.model.freeze == ("layer1.*",)


def test_overrides_do_not_write_into_the_callers_data():
    data = {"data": {"train": "a", "val": "b"}, "train": {"epochs": 3}}
    before = json.dumps(data)
    parse_recipe(data, ["train.epochs=5"])
    assert json.dumps(data) == before


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_dump_reads_back_as_the_same_recipe(path, tmp_path):
    recipe = load_recipe(path, ["optimizer.weight_decay=1e-05"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_yaml(recipe))
    assert load_recipe(copy) == recipe
    # The dump is complete and is ordinary YAML: another parser sees every section.
    assert set(yaml.safe_load(dump_yaml(recipe))) == set(Recipe.model_fields)


def test_recipes_are_frozen():
    recipe = parse_recipe(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.epochs = 3


def test_the_schema_describes_every_key():
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    sections = [schema, *schema["$defs"].values()]
    keys = [(section["title"], name, entry) for section in sections for name, entry in section["properties"].items()]
    assert len(keys) > 70
    missing = [f"{title}.{name}" for title, name, entry in keys if not entry.get("description")]
    assert not missing
    assert schema["$defs"]["Train"]["properties"]["epochs"]["minimum"] == 1
    assert all(section["additionalProperties"] is False for section in sections)
