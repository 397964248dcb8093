"""Metrics against torchmetrics on the same features and pictures (torch-fidelity: test_distribution_metrics)."""

import pytest
import torch
from torch import nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore

from ptq4dit.metrics.classifier import SceneClassifier, judge
from ptq4dit.metrics.distribution import inception_score
from ptq4dit.metrics.frechet import frechet_distance
from ptq4dit.metrics.image import psnr, ssim

EXACT = 1e-3


def pictures(n, size=64, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return SceneClassifier().eval()


class Part(nn.Module):
    """One of the classifier's three outputs, as torchmetrics asks for it."""

    def __init__(self, classifier, part, width):
        super().__init__()
        self.classifier, self.part, self.num_features = classifier, part, width

    def forward(self, x):
        return judge(self.classifier, x)[self.part]


@pytest.mark.parametrize(("part", "width"), [(0, 128), (1, 112)], ids=["frechet", "spatial frechet"])
def test_frechet_distance(classifier, part, width):
    real, made = pictures(300), (pictures(260, seed=1) * 0.8 + 0.1 * pictures(260, seed=2))
    oracle = FrechetInceptionDistance(feature=Part(classifier, part, width), normalize=True)
    oracle.update(real, real=True)
    oracle.update(made, real=False)
    ours = frechet_distance(judge(classifier, made)[part], judge(classifier, real)[part])
    assert ours == pytest.approx(float(oracle.compute()), rel=EXACT)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore`", "ignore:std")
def test_inception_score(classifier):
    made = pictures(120) * torch.linspace(0.1, 1, 120)[:, None, None, None]

    class Sharp(Part):
        def forward(self, x):
            return 40 * super().forward(x)

    sharp = Sharp(classifier, 2, 10)
    oracle = InceptionScore(feature=sharp, splits=1)
    oracle.update(made)
    ours = inception_score(sharp(made), splits=1)[0]
    assert ours > 1.01
    assert ours == pytest.approx(float(oracle.compute()[0]), rel=EXACT)


def test_ssim_and_psnr():
    a, b = pictures(4, 32), (pictures(4, 32) + 0.3 * pictures(4, 32, seed=1)).clamp(0, 1)
    expected = structural_similarity_index_measure(b, a, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(a, b).float(), expected, rtol=EXACT, atol=0)
    expected = peak_signal_noise_ratio(b, a, data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(a, b), expected, rtol=EXACT, atol=0)
