import math

import pytest
import torch
from scipy import stats

from ptq4dit.metrics.distribution import class_accuracy, inception_score, precision_recall
from ptq4dit.metrics.frechet import frechet_distance
from ptq4dit.metrics.interval import mean_interval, paired_difference


def gaussian(*shape, seed=0, shift=0.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + shift


def test_inception_score_by_hand():
    """Two certain classes, equally often: p(y|x) one-hot, p(y) = 1/2, so KL = log 2 and the score is 2."""
    certain = torch.tensor([[40.0, -40.0], [-40.0, 40.0]]).repeat(6, 1)
    assert inception_score(certain, splits=3) == pytest.approx((2.0, 0.0), abs=1e-9)
    assert inception_score(torch.zeros(8, 5), splits=2) == pytest.approx((1.0, 0.0), abs=1e-9)
    biased = torch.log(torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert inception_score(biased, splits=1)[0] == pytest.approx(math.exp(kl))


def test_precision_and_recall_by_hand():
    """Real points 0..5 on a line, k = 1: radius 1 each. Generated 0.5 and 20: one of two in, radius 19.5 covers all."""
    real = torch.arange(6.0)[:, None]
    assert precision_recall(real, torch.tensor([[0.5], [20.0]]), neighbours=1) == (0.5, 1.0)
    assert precision_recall(real, real.clone(), neighbours=3) == (1.0, 1.0)
    assert precision_recall(real, real + 100, neighbours=3) == (0.0, 0.0)


def test_recall_falls_when_a_mode_is_missing_and_precision_when_pictures_are_off():
    real = torch.cat([gaussian(200, 8), gaussian(200, 8, seed=1, shift=20)])
    precision, recall = precision_recall(real, gaussian(200, 8, seed=2))
    assert precision > 0.7 and 0.3 < recall < 0.55
    precision, recall = precision_recall(
        real, torch.cat([gaussian(100, 8, seed=3), gaussian(100, 8, seed=4, shift=-30)])
    )
    assert precision < 0.55


def test_numbers_that_torch_fidelity_gives():
    """From torch-fidelity 0.4.0 on these tensors: `fid_statistics_to_metric`,
    `isc_features_to_metric(logits, splits=10, shuffle=False)`,
    `prc_features_to_metric(made, real, prc_neighborhood=3)`.

    They are written down because the package imports torchvision, whose builds ask for another torch than the pinned.
    """
    real, made, logits = gaussian(300, 16), gaussian(250, 16, seed=1, shift=0.2) * 1.2, gaussian(240, 10, seed=2) * 3
    assert frechet_distance(made, real) == pytest.approx(2.72166492271392, rel=1e-3)
    assert inception_score(logits, splits=10) == pytest.approx((3.515212649855316, 0.27850955043253706), rel=1e-3)
    assert precision_recall(real, made) == pytest.approx((0.3880000114440918, 0.9433333277702332), rel=1e-3)


def test_class_accuracy():
    assert class_accuracy(torch.eye(4), torch.tensor([0, 1, 2, 0])) == 0.75


def test_interval_equals_scipy():
    values = [1.0, 2.5, 2.0, 4.0]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = mean_interval(values)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((2.375, low, high))
    paired = paired_difference([2.0, 3.0, 5.0], [1.0, 2.5, 3.5])
    low, high = stats.ttest_rel([2.0, 3.0, 5.0], [1.0, 2.5, 3.5]).confidence_interval(0.95)
    assert (paired.low, paired.high) == pytest.approx((low, high))
    assert math.isnan(mean_interval([1.0]).low)


def test_refuses():
    with pytest.raises(ValueError, match="1 to 3 splits"):
        inception_score(torch.zeros(3, 2), splits=4)
    with pytest.raises(ValueError, match="more than 3 pictures"):
        precision_recall(torch.zeros(3, 2), torch.zeros(9, 2))
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([])
