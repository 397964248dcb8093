"""Frechet distance between two sets of feature vectors, the measure behind FID (Heusel et al. 2017)."""

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(a: Float[Tensor, "n _"], b: Float[Tensor, "m _"]) -> float:
    """``|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))`` of the Gaussians fitted to two sets.

    The trace of the root is taken from the eigenvalues of the symmetric ``C_a^(1/2) C_b C_a^(1/2)``, which are those of
    ``C_a C_b``, so singular covariances (fewer vectors than features) need no jitter.

    Args:
        a: ``(n, d)``, n >= 2.
        b: ``(m, d)``, m >= 2.

    Returns:
        The squared distance, at least 0, computed in float64. It depends on n and m: compare equal sizes only.

    Raises:
        ValueError: if a set has fewer than two vectors, the widths differ or a value is not finite.
    """
    for name, features in (("a", a), ("b", b)):
        if features.ndim != 2 or features.shape[0] < 2 or features.shape[1] != a.shape[1]:
            raise ValueError(
                f"Expected two feature matrices (n >= 2, d) of one width, got {name} of shape {tuple(features.shape)} "
                f"beside {tuple(a.shape)}. Pool features to vectors and give at least two pictures a set."
            )
        if not features.isfinite().all():
            raise ValueError(f"Expected finite features, got nan or infinity in {name}. Look at its pictures.")
    mean_a, mean_b = a.double().mean(0), b.double().mean(0)
    cov_a, cov_b = torch.cov(a.double().T).reshape(a.shape[1], -1), torch.cov(b.double().T).reshape(a.shape[1], -1)
    root_a = _symmetric_root(cov_a)
    cross = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp_min(0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return float(distance.clamp_min(0))


def _symmetric_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
