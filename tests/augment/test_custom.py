"""Functions of the user: numbers, parameters, what they may return, and where they may stand."""

import numba
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.augment.program import Code
from fastload.errors import ConfigError
from tests.augment.executor import draw, operations, picture
from tests.augment.statistics import independent, same_distribution

SQUARE = [T.CenterCrop(64)]


@numba.njit(nogil=True)
def darken(image, parameters):
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            for channel in range(3):
                image[row, column, channel] = np.uint8(image[row, column, channel] * parameters[0])


def invert(image, parameters):
    image[:] = 255 - image


def pixels():
    return np.ascontiguousarray(picture().permute(1, 2, 0).numpy())


def test_functions_are_numbered_by_their_first_use():
    first, second = T.Lambda(invert), T.Lambda(darken, [0.5])
    draws = draw([*SQUARE, T.RandomOrder([first, T.RandomApply([second]), T.Lambda(invert)])], 300)
    assert len(draws.functions) == 2
    by_name = {function.__self__: number for number, function in enumerate(draws.functions)}
    assert set(by_name) == {first, second}
    for sample in range(300):
        steps = operations(draws.after, sample)
        assert all(code == Code.LAMBDA for code, _ in steps)
        numbers = [int(values[0]) for _, values in steps]
        assert numbers.count(by_name[first]) == 2
        assert numbers.count(by_name[second]) <= 1
    assert draws.rows(slice(5, 9)).functions == draws.functions


def test_parameters_are_uniform():
    draws = draw([*SQUARE, T.Lambda(invert, [(0, 1), 7, (-2.0, 3.0), (0, 9), (1, 1), (5, 6)])], 20_000)
    values = draws.after.values
    assert (values[:, [0, 2, 5]] == [0, 7, 1]).all()
    for column, (low, high) in ((1, (0, 1)), (3, (-2, 3)), (4, (0, 9)), (6, (5, 6))):
        assert same_distribution(values[:, column], np.linspace(low, high, 20_000))
    assert independent(values[:, 1], values[:, 3])
    assert independent(values[:, 1], values[:, 6])


def test_what_functions_are_called_with():
    image = pixels()
    T.Lambda(darken, [0.5]).apply(image, np.full(15, 0.5))
    assert np.array_equal(image, pixels() // 2)
    T.Lambda(invert).apply(image, np.zeros(15))
    assert np.array_equal(image, 255 - pixels() // 2)
    image = pixels()
    T.Lambda(F.adjust_gamma, [(0.5, 2), 1], tensors=True).apply(image, np.array([1.5, 1.0, 0, 0]))
    assert np.array_equal(image, F.adjust_gamma(picture(), 1.5, 1.0).permute(1, 2, 0).numpy())
    seen = []
    T.Lambda(lambda image, parameters: seen.append(parameters.tolist()), [1, (2, 3)]).apply(image, np.arange(15.0))
    assert seen == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (T.Lambda(lambda image, _: 255 - image), "it returned ndarray of (64, 64, 3) uint8: write image[:] = result"),
        (T.Lambda(lambda image: image.float(), tensors=True), "uint8 tensor of shape (3, 64, 64)"),
        (T.Lambda(lambda image: image[:, 1:], tensors=True), "it returned Tensor of (3, 63, 64) torch.uint8"),
        (T.Lambda(lambda image: None, tensors=True), "it returned NoneType"),
    ],
)
def test_results_that_cannot_be_used(step, words):
    with pytest.raises(ConfigError) as caught:
        step.apply(pixels(), np.zeros(15))
    assert words in str(caught.value)


def test_errors_of_the_function_go_through():
    with pytest.raises(ZeroDivisionError):
        T.Lambda(lambda image, _: 1 / 0).apply(pixels(), np.zeros(15))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: T.Lambda(3), "a function of an image"),
        (lambda: T.Lambda(T.Grayscale()), "a function of an image"),
        (lambda: T.Lambda(invert, 3), "at most 15 numbers"),
        (lambda: T.Lambda(invert, [0] * 16), "at most 15 numbers"),
        (lambda: T.Lambda(invert, [(2, 1)]), "low <= high"),
        (lambda: T.Lambda(invert, ["a"]), "a number or (low, high)"),
        (lambda: T.Lambda(invert, tensors=1), "True or False"),
    ],
)
def test_bad_arguments_say_what_was_expected(make, words):
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)


def test_a_recipe_cannot_hold_a_function():
    for call in (
        lambda: T.to_config([T.RandomApply([T.Lambda(invert)])]),
        lambda: T.from_config(["Lambda"]),
        lambda: T.from_config([{"RandomApply": {"transforms": [{"Lambda": {"lambd": "os.system"}}]}}]),
    ):
        with pytest.raises(ConfigError, match="which a recipe cannot hold: pass"):
            call()


def test_a_look_at_a_function():
    named = T.to_config([T.Lambda(darken, [0.5]), T.Lambda(torch.sin)], functions=True)
    assert named[0] == {"Lambda": {"lambd": f"{__name__}:darken", "parameters": [[0.5, 0.5]], "tensors": False}}
    assert named[1]["Lambda"]["lambd"].startswith("torch:")


def test_places():
    for chain in ([T.Lambda(invert), T.RandomHorizontalFlip()], [T.ToDtype(), T.Normalize([0], [1]), T.Lambda(invert)]):
        with pytest.raises(ConfigError, match="before"):
            compile_plan([*SQUARE, *chain])
    assert draw([T.Lambda(invert), *SQUARE], 2).before.code.tolist() == [Code.LAMBDA] * 2
