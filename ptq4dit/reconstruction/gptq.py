"""Rounding in closed form: the least squares target, GPTQ's columns, and coordinate descent on what is left."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK = 128
"""Columns that are rounded before the rest of the weight is corrected."""
_LEAST = 1e-30
"""Diagonal of a Hessian of inputs that never vary: small, and its inverse still a number."""
_TRIES = 12
"""How often the damping of a Hessian is raised tenfold at most."""


def least_squares_weight(
    weight: Float[Tensor, "d_out d_in"],
    hessian: Float[Tensor, "d_in d_in"],
    cross: Float[Tensor, "d_out d_in"],
    damping: float,
) -> Float[Tensor, "d_out d_in"]:
    """The float weight that gives the wanted output on the inputs that the layer really gets.

    Minimizes ``|Y - V X|^2 + lambda |V - W|^2`` over V: ``V = W + (Y X^T - W X X^T) (X X^T + lambda I)^-1``. With
    ``Y = W X_float`` it is the asymmetric correction of GPTAQ (Li et al. 2025, arXiv 2504.02692), all columns at once.

    Args:
        weight: W, what V stays close to.
        hessian: ``X X^T`` of the rounded inputs, tokens summed.
        cross: ``Y X^T``.
        damping: lambda as a share of the mean diagonal of the Hessian.
    """
    residual = cross - weight @ hessian
    return weight + torch.cholesky_solve(residual.T, _factor(hessian, damping)).T


def gptq(
    position: Float[Tensor, "d_out d_in"],
    hessian: Float[Tensor, "d_in d_in"],
    low: Float[Tensor, "d_out d_in"],
    high: Float[Tensor, "d_out d_in"],
    scale: Float[Tensor, "d_out d_in"],
    damping: float = 1e-2,
) -> tuple[Float[Tensor, "d_out d_in"], Float[Tensor, "d_out d_in"]]:
    """Round a weight column by column, each column's error made up for by those that follow.

    GPTQ (Frantar et al. 2023, arXiv 2210.17323), columns in order of falling Hessian diagonal ("act-order"), scales
    fixed beforehand. Minimizes ``tr((V - Q) H (V - Q)^T)`` greedily.

    Args:
        position: the wanted weight in steps from zero, ``V / scale``.
        hessian: of the inputs.
        low, high: ends of the grid in steps from zero.
        scale: step size of every weight.
        damping: added to the diagonal, as a share of its mean.

    Returns:
        Whole numbers of steps from zero, and where each weight was when it was rounded, both ``(d_out, d_in)``.
    """
    order = hessian.diagonal().argsort(descending=True, stable=True)
    inverse = torch.cholesky_inverse(_factor(hessian[order][:, order], damping))
    factor = torch.linalg.cholesky(inverse, upper=True)
    values, step = (position * scale)[:, order], scale[:, order]
    low, high = low[:, order], high[:, order]
    rounded, moved = torch.empty_like(values), torch.empty_like(values)
    for start in range(0, values.shape[1], _BLOCK):
        end = min(start + _BLOCK, values.shape[1])
        errors = torch.empty_like(values[:, start:end])
        for j in range(start, end):
            moved[:, j] = values[:, j] / step[:, j]
            rounded[:, j] = torch.maximum(torch.minimum(torch.round(moved[:, j]), high[:, j]), low[:, j])
            error = (values[:, j] - rounded[:, j] * step[:, j]) / factor[j, j]
            values[:, j:end] -= error[:, None] * factor[j, j:end]
            errors[:, j - start] = error
        values[:, end:] -= errors @ factor[start:end, end:]
    back = order.argsort()
    return rounded[:, back], moved[:, back]


def coordinate_descent(
    rounded: Float[Tensor, "d_out d_in"],
    target: Float[Tensor, "d_out d_in"],
    hessian: Float[Tensor, "d_in d_in"],
    low: Float[Tensor, "d_out d_in"],
    high: Float[Tensor, "d_out d_in"],
    scale: Float[Tensor, "d_out d_in"],
    passes: int = 1,
) -> Float[Tensor, "d_out d_in"]:
    """Move one column at a time to its best whole numbers, the others fixed; the objective never rises.

    Each pass sets ``q_j = clamp(round(q_j + (E H)_j / (H_jj s_j)))`` with ``E = V - s q``; about QuantEase
    (Behdin et al. 2023, arXiv 2309.01885).

    Args:
        rounded: whole numbers of steps from zero.
        target: the wanted weight V.
        hessian: of the inputs, undamped.
        low, high, scale: as for `gptq`.
        passes: over all columns.
    """
    rounded, diagonal = rounded.clone(), hessian.diagonal().clamp(min=torch.finfo(hessian.dtype).tiny)
    for _ in range(passes):
        slope = (target - rounded * scale) @ hessian
        for start in range(0, rounded.shape[1], _BLOCK):
            end = min(start + _BLOCK, rounded.shape[1])
            before, own = rounded[:, start:end].clone(), slope[:, start:end].clone()
            local = hessian[start:end, start:end]
            for j in range(end - start):
                column, width = rounded[:, start + j], scale[:, start + j]
                best = torch.round(column + own[:, j] / (diagonal[start + j] * width))
                best = torch.maximum(torch.minimum(best, high[:, start + j]), low[:, start + j])
                own -= ((best - column) * width)[:, None] * local[j]
                rounded[:, start + j] = best
            slope -= ((rounded[:, start:end] - before) * scale[:, start:end]) @ hessian[start:end]
    return rounded


def best_scale(
    rounded: Float[Tensor, "d_out d_in"],
    target: Float[Tensor, "d_out d_in"],
    hessian: Float[Tensor, "d_in d_in"],
    scale: Float[Tensor, "d_out groups"],
) -> Float[Tensor, "d_out groups"]:
    """The scales that minimize ``tr((V - s q) H (V - s q)^T)`` for given integers; a row's groups are solved together.

    One group: ``s = q H v / q H q``. Scales that would not be positive stay.
    """
    groups = scale.shape[1]
    parts = rounded.unflatten(1, (groups, -1))
    if groups == 1:
        product = rounded @ hessian
        found = ((product * target).sum(1) / (product * rounded).sum(1).clamp(min=1e-30))[:, None]
    else:
        blocks = hessian.unflatten(0, (groups, -1)).unflatten(2, (groups, -1))
        gram = torch.einsum("oga,gahb,ohb->ogh", parts, blocks, parts)
        wanted = (parts * (target @ hessian).unflatten(1, (groups, -1))).sum(2)
        ridge = 1e-6 * gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
        found = torch.linalg.solve(gram + ridge[:, None, None] * torch.eye(groups).to(gram), wanted)
    good = torch.isfinite(found) & (found > 0.5 * scale) & (found < 2 * scale)
    return torch.where(good, found, scale)


def hessian_error(difference: Float[Tensor, "d_out d_in"], hessian: Float[Tensor, "d_in d_in"]) -> Float[Tensor, ""]:
    """``tr(D H D^T)``: the squared error of the layer's output, tokens summed."""
    return ((difference @ hessian) * difference).sum()


def column_order(hessian: Float[Tensor, "d_in d_in"]) -> Int[Tensor, " d_in"]:
    """Columns by falling diagonal."""
    return hessian.diagonal().argsort(descending=True, stable=True)


def _factor(hessian: Tensor, damping: float) -> Tensor:
    """Cholesky's lower factor of a Hessian with a diagonal added; channels that never vary keep their weights.

    The diagonal is a share of the Hessian's own mean. Where sums in float32 left it so far from positive definite that
    this is not enough, the share is raised until it is.

    Raises:
        ValueError: if the Hessian is not finite.
    """
    if not torch.isfinite(hessian).all():
        raise ValueError("Expected finite inputs of a layer, got nan or infinity. Collect data from this model again.")
    size, one = hessian.diagonal().mean().clamp(min=_LEAST), torch.eye(len(hessian)).to(hessian)
    for power in range(_TRIES):
        factor, failed = torch.linalg.cholesky_ex(hessian + damping * 10**power * size * one)
        if not failed:
            return factor
    raise ValueError("Expected a Hessian that is nearly positive definite, got one that no damping mends.")
