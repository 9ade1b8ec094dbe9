"""The contact sheet and the augmented samples: opened by Pillow, compared with Pillow's own crops."""

import shutil

import numpy as np
from PIL import Image

from fastload.augment import compile_plan
from fastload.dataset import open_dataset
from fastload.inspect import inspect_dataset, write_png
from fastload.inspect.annotations import read_annotations
from fastload.inspect.augmented import augment_samples, taken_box
from fastload.inspect.pictures import COLOURS, take_picture
from fastload.inspect.plan import explain_recipe
from fastload.inspect.run import take_pictures
from fastload.recipe import load_recipe
from fastload.train.data import epoch_transforms


def test_the_sheet_is_a_png_with_every_sample(zoo, recipe_file, tmp_path):
    recipe = load_recipe(recipe_file)
    pictures = take_pictures(zoo, count=8, recipe=recipe)
    assert len({picture.label for picture in pictures.samples}) == 8
    write_png(tmp_path / "sheet.png", inspect_dataset(zoo), pictures)
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    first = np.asarray(pictures.samples[0].image.convert("RGB")).astype(int)
    height, width = first.shape[:2]  # smaller than a cell: it stands there pixel for pixel, in the middle of the first
    top, left = 48 + (216 - height) // 2, 12 + (216 - width) // 2
    assert np.array_equal(pixels[top : top + height, left : left + width], first)


def test_annotations_are_drawn_where_they_are(annotated):
    with open_dataset(annotated) as dataset:
        assert len(dataset) == 2
        sample = dataset[0]
        marks = read_annotations(sample.extras, height=100, width=200, schema=dataset.schema, classes=())
        assert marks.boxes == ((20.0, 10.0, 80.0, 50.0),)
        assert marks.names == ("cat",)
        assert marks.points == ((150.0, 20.0),)  # the other one is not visible
        assert [int(mask.sum()) for mask in marks.masks] == [2 * 30 * 60]
        picture = take_picture(dataset, 0)
        pixels = np.asarray(picture.image).astype(int)
    assert picture.notes == "1 box, 1 mask, 1 keypoint"
    assert tuple(pixels[50, 60]) == COLOURS[0]  # the lower edge of the box
    assert tuple(pixels[20, 150]) == COLOURS[0]  # the middle of the keypoint
    expected = (0.6 * 128 + 0.4 * np.array(COLOURS[1])).astype(int)
    assert np.abs(pixels[75, 150] - expected).max() <= 1  # the mask's second colour, laid over
    assert np.abs(pixels[75, 60] - 128).max() <= 1


def test_nonsense_in_members_draws_nothing(annotated):
    with open_dataset(annotated) as dataset:
        assert take_picture(dataset, 1).notes == ""


def test_augmented_samples_are_what_the_boxes_hold(zoo, recipe_file):
    """Pillow's crop and resize of the very box that is drawn gives the picture that the Loader delivered."""
    recipe = load_recipe(recipe_file)
    with open_dataset(zoo) as dataset:
        ids = [0, 4, 7, 22]  # RGB of several kinds, and a PNG
        augmented = augment_samples(dataset, ids, recipe, lambda done, total: None)
        assert [row.original.id for row in augmented.rows] == ids
        for epoch, side in ((0, 32), (1, 64)):
            plan = compile_plan(epoch_transforms(recipe, "off", epoch))
            sizes = dataset.sizes(np.array(ids))
            draws = plan.draw(seed=recipe.train.seed, epoch=epoch, ids=np.array(ids), sizes=sizes)
            for place, row in enumerate(augmented.rows):
                with Image.open(dataset.location(row.original.id)) as image:
                    cut = image.convert("RGB").crop(tuple(round(edge) for edge in taken_box(draws, place)))
                expected = np.asarray(cut.resize((side, side), Image.Resampling.BILINEAR)).astype(int)
                expected = expected[:, ::-1] if draws.flip[place] else expected
                got = np.asarray(row.images[epoch]).astype(int)
                assert row.epochs == (0, 1)
                assert np.abs(got - expected).max() <= 1


def test_damaged_samples_are_left_out_of_the_pictures(zoo, recipe_file, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(zoo, folder)
    first = folder / "a 444" / "0.jpg"
    first.write_bytes(first.read_bytes()[:-300])  # its headers are sound
    pictures = take_pictures(folder, count=30, recipe=load_recipe(recipe_file))
    assert len(pictures.samples) == 22
    assert len(pictures.augmented.rows) == 8
    with open_dataset(folder) as dataset:
        augmented = augment_samples(dataset, [0, 1], load_recipe(recipe_file), lambda done, total: None)
    assert [row.original.id for row in augmented.rows] == [1]


def test_the_plan_says_what_remains(zoo, recipe_file):
    training, evaluation = explain_recipe(load_recipe(recipe_file), zoo)
    assert [step.partition("(")[0] for step, _ in training.steps] == [
        "RandomResizedCrop",
        "RandomHorizontalFlip",
        "ToDtype",
        "Normalize",
    ]
    assert training.passes == evaluation.passes == 1
    assert "32 x 32" in training.result
    assert 0.2 < training.source_share < 0.9
    # Resize(37) and CenterCrop(32) show (32 / 37)^2 of a square, less of anything else.
    assert evaluation.source_share <= (32 / 37) ** 2 + 0.02
    assert evaluation.enlarged_share == 0
