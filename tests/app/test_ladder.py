"""What decibels look like: words from one scale, pictures that are as far off as they are said to be."""

import numpy as np
import pytest

from app.content import grades
from app.services.stored import load_results, read_results
from app.tabs import ladder


@pytest.mark.parametrize(
    ("psnr", "word"),
    [(5, "broken"), (21.99, "broken"), (22, "visible"), (33.9, "visible"), (34, "hard to tell"), (99, "hard to tell")],
)
def test_the_words(psnr, word):
    assert grades.grade(psnr).word == word and grades.graded(psnr) == f"{psnr:.1f} dB, {word}"


def test_the_scale_says_where_the_words_end():
    assert grades.scale() == "broken below 22 dB, hard to tell from 34 dB on, visible between"


def test_the_demos_rungs_are_one_picture_as_far_off_as_said():
    """Measured anew from the stored pictures, which WebP has changed a little."""
    results = load_results("demo")
    original, *steps = ladder.rungs(results)
    assert original["psnr"] == "original" and [step["word"] for step in steps][-1] == "hard to tell"
    assert steps[0]["word"] == "broken"
    names = {step["alt"].split(",")[0] for step in steps}
    assert len(names) == 1
    (example,) = [e for e in results.examples if f"The same {e.class_name}" in names]
    exact = example.full_precision.pixels() / 255
    for step, target in zip(steps, ladder.TARGETS, strict=True):
        said = float(step["alt"].split()[-2])
        assert abs(said - target) <= ladder.NEAR
        (picture,) = {p for p in example.quantized.values() if f"{p.psnr:.1f}" == f"{said:.1f}"}
        found = -10 * np.log10(np.square(picture.pixels() / 255 - exact).mean())
        assert found == pytest.approx(said, abs=1.5)


def test_without_pictures_that_fit_there_are_no_rungs(stored_folder):
    results = read_results(stored_folder)  # 20 to 54 dB in steps of three: every rung is near
    assert len(ladder.rungs(results)) == 5
    bare = type(results)(examples=(), means={}, made={})
    assert ladder.rungs(bare) == ladder.NOTHING
    few = {key: picture for key, picture in results.examples[0].quantized.items() if picture.psnr > 30}
    one = type(results.examples[0])(**vars(results.examples[0]) | {"quantized": few})
    assert ladder.rungs(type(results)(examples=(one,), means={}, made={})) == ladder.NOTHING
