"""Channel-wise Salience Balancing: move magnitude between an activation channel and its weight (PTQ4DiT eqs. 3-7)."""

import torch
from jaxtyping import Float
from torch import Tensor


def balance_factors(
    activation_salience: Float[Tensor, " channel"], weight_salience: Float[Tensor, " channel"]
) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
    """Diagonals of the balancing matrices (PTQ4DiT eqs. 5, 6, 7).

    With ``s~ = sqrt(s(X) s(W))``: ``b_x = s~ / s(X) = sqrt(s(W) / s(X))`` and ``b_w = s~ / s(W) = 1 / b_x``. After
    ``X diag(b_x)`` and ``diag(b_w) W`` both saliences are ``s~`` (eq. 12) and the product is unchanged (eq. 3).

    A channel whose activation or weight salience is zero contributes nothing to the product and cannot be balanced;
    its factors are 1.

    Args:
        activation_salience: ``s(X)``, ``(d_in,)``, non-negative; with SSC the calibrated one (eq. 14).
        weight_salience: ``s(W)``, ``(d_in,)``, non-negative.

    Returns:
        ``b_x`` and ``b_w``, ``(d_in,)`` each, positive and finite.

    Raises:
        ValueError: if a salience is negative or not finite.
    """
    _require_salience("activation_salience", activation_salience)
    _require_salience("weight_salience", weight_salience)
    balanced = (activation_salience > 0) & (weight_salience > 0)
    b_x = torch.where(balanced, weight_salience, 1.0).sqrt() / torch.where(balanced, activation_salience, 1.0).sqrt()
    return b_x, 1 / b_x


def _require_salience(name: str, salience: Tensor) -> None:
    wrong = ~(torch.isfinite(salience) & (salience >= 0))
    if wrong.any():
        channel = int(wrong.nonzero()[0])
        raise ValueError(
            f"Expected {name} to be finite and non-negative, got {float(salience[channel])} in channel {channel}. "
            "Calibrate again; if it persists, the model's activations overflow: load it with dtype=torch.float32."
        )
