"""How a set of pictures compares with real ones, from features and logits: inception score, precision, recall."""

import math
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

_AT_A_TIME = 4096
"""Rows of a distance matrix: all of 50,000 pictures' would be 20 GB."""


def inception_score(logits: Float[Tensor, "n label"], splits: int = 10) -> tuple[float, float]:
    """``exp(mean_x KL(p(y|x) || p(y)))`` (Salimans et al. 2016), over consecutive splits.

    Args:
        logits: of the classifier, one row a picture.
        splits: parts of (nearly) equal size, each scored by itself.

    Returns:
        Mean and standard deviation over the splits.

    Raises:
        ValueError: if there are fewer pictures than splits.
    """
    if not 1 <= splits <= len(logits):
        raise ValueError(f"Expected 1 to {len(logits)} splits for {len(logits)} pictures, got {splits}.")
    log_p = torch.log_softmax(logits.double(), dim=1)
    scores = []
    for part in log_p.tensor_split(splits):
        log_marginal = torch.logsumexp(part, dim=0) - math.log(len(part))
        scores.append((part.exp() * (part - log_marginal)).sum(dim=1).mean().exp())
    values = torch.stack(scores)
    return float(values.mean()), float(values.std(correction=0))


def precision_recall(
    real: Float[Tensor, "n channel"], generated: Float[Tensor, "m channel"], neighbours: int = 3
) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019).

    A point lies in a set's manifold if it is no farther from some point of the set than that point's ``k``-th nearest
    neighbour in the set. Precision: share of generated points in the real manifold; recall: the other way round.

    Args:
        real, generated: features, one row a picture.
        neighbours: k.

    Raises:
        ValueError: if a set has no k-th neighbour.
    """
    if min(len(real), len(generated)) <= neighbours:
        raise ValueError(f"Expected more than {neighbours} pictures in each set, got {len(real)} and {len(generated)}.")
    real, generated = real.double(), generated.double()
    return _covered(generated, real, neighbours), _covered(real, generated, neighbours)


def class_accuracy(logits: Float[Tensor, "n label"], labels: Int[Tensor, " n"]) -> float:
    """Share of pictures that the classifier takes for what they were meant to be."""
    return float((logits.argmax(dim=1) == labels).double().mean())


def _covered(points: Tensor, manifold: Tensor, neighbours: int) -> float:
    distances = partial(torch.cdist, x2=manifold, compute_mode="donot_use_mm_for_euclid_dist")
    # the nearest one of the manifold's own points is the point itself
    radius = torch.cat([distances(some).kthvalue(neighbours + 1, dim=1).values for some in manifold.split(_AT_A_TIME)])
    inside = [(distances(some) <= radius).any(dim=1) for some in points.split(_AT_A_TIME)]
    return float(torch.cat(inside).double().mean())
