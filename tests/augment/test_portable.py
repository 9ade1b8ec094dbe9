"""Sine and cosine that are the same on every machine, against numpy's in extended precision."""

import numpy as np

from fastload.augment.portable import sin_cos


def test_sine_and_cosine():
    degrees = np.concatenate((np.random.default_rng(0).uniform(-720, 720, 50_000), np.arange(-720, 721, 15.0)))
    sine, cosine = sin_cos(degrees)
    radians = degrees * np.longdouble("0.0174532925199432957692369076848861")
    assert np.abs(sine - np.sin(radians)).max() < 2.0**-52
    assert np.abs(cosine - np.cos(radians)).max() < 2.0**-52


def test_quarter_turns_are_exact():
    sine, cosine = sin_cos(np.array([0.0, 90.0, 180.0, 270.0, -90.0, 360.0, 720_000.0]))
    assert sine.tolist() == [0, 1, 0, -1, -1, 0, 0]
    assert cosine.tolist() == [1, 0, -1, 0, 0, 1, 1]
