"""Watch the inputs of a DiT's layers while it samples: running extremes, a few rows, nothing that grows."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from ptq4dit.calibration.statistics import Calibration, layer_weight_salience, to_half
from ptq4dit.calibration.unbalanced import ExtraRanges
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.model.layers import balanced_layers
from ptq4dit.paper.ssc import spearman_rho


class Recorder:
    """Running per-channel extremes and a bounded uniform sample of rows, per layer and observed timestep.

    Every token gets a random key; the rows with the highest keys so far are kept. The keys are drawn before a forward
    pass, so all layers keep the same tokens.
    """

    def __init__(self, transformer: nn.Module, config: CalibrationConfig) -> None:
        self.config = config
        self.layers = balanced_layers(transformer)
        self.timesteps: list[int] = []
        self._low: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        self._high: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        self._rows: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        self._keys: list[Tensor] = []
        self._position: int | None = None
        self._candidates = self._kept = torch.empty(0, dtype=torch.long)
        self._weight_salience = layer_weight_salience(transformer)
        self._per_sample = {
            name: torch.zeros(salience.numel() + 1, dtype=torch.float64)
            for name, salience in self._weight_salience.items()
        }
        self._extras = ExtraRanges(transformer)

    def expect(self, position: int | None, keys: Tensor | None = None) -> None:
        """Say which observed timestep the next forward pass belongs to (None: not observed), and its tokens' keys."""
        self._position = self._extras.position = position
        if position is None or keys is None:
            return
        limit = self.config.rows_per_timestep
        candidate_keys, self._candidates = keys.topk(min(limit, len(keys)))
        before = self._keys[position] if position < len(self._keys) else keys[:0]
        pool = torch.cat([before, candidate_keys])
        kept_keys, self._kept = pool.topk(min(limit, len(pool)))
        self._keys[position : position + 1] = [kept_keys]

    @contextmanager
    def watching(self, transformer: nn.Module) -> Iterator[None]:
        """Hook the layers' inputs; the hooks are removed whatever happens."""
        hooks = [
            layer.linears[0].register_forward_pre_hook(lambda _, args, name=name: self._observe(name, args[0]))
            for name, layer in balanced_layers(transformer).items()
        ]
        hooks += self._extras.hooks(transformer)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _observe(self, name: str, x: Tensor) -> None:
        position = self._position
        if position is None:
            return
        tokens = x.detach().reshape(-1, x.shape[-1])
        dtype = torch.promote_types(x.dtype, torch.float32)
        low, high = tokens.amin(dim=0).to("cpu", dtype), tokens.amax(dim=0).to("cpu", dtype)
        rows = tokens[self._candidates.to(tokens.device)].cpu()
        if position < len(self._low[name]):
            low = torch.minimum(low, self._low[name][position])
            high = torch.maximum(high, self._high[name][position])
            rows = torch.cat([self._rows[name][position], rows])
        self._low[name][position : position + 1] = [low]
        self._high[name][position : position + 1] = [high]
        self._rows[name][position : position + 1] = [rows[self._kept]]
        self._per_sample[name] += _per_sample_sums(x.detach(), self._weight_salience[name]).cpu()

    def result(self, dit: Dit) -> Calibration:
        """The statistics gathered so far.

        Raises:
            ValueError: if an activation was not finite.
        """
        for end, own in (("low", self._low), ("high", self._high)):
            extremes = {name: torch.stack(rows) for name, rows in own.items()} | self._extras.stacked(end)
            for name, values in extremes.items():
                if not torch.isfinite(values).all():
                    raise ValueError(
                        f"Expected finite activations, got others into {name}. Load with dtype=torch.float32."
                    )
        return Calibration(
            config=self.config,
            model=fingerprint(dit.transformer),
            timesteps=torch.tensor(self.timesteps),
            activation_min={name: torch.stack(rows) for name, rows in self._low.items()},
            activation_max={name: torch.stack(rows) for name, rows in self._high.items()},
            weight_salience={name: s.cpu() for name, s in self._weight_salience.items()},
            samples={name: to_half(torch.stack(rows)) for name, rows in self._rows.items()},
            sample_keys=torch.stack(self._keys),
            sample_salience={n: (sums[:-1] / sums[-1]).to(self._low[n][0]) for n, sums in self._per_sample.items()},
            sample_weight={n: sums[-1].to(self._low[n][0]) for n, sums in self._per_sample.items()},
            extra_min=self._extras.stacked("low"),
            extra_max=self._extras.stacked("high"),
        )


def _per_sample_sums(
    x: Float[Tensor, "sample token channel"], weight_salience: Float[Tensor, " channel"]
) -> Float64[Tensor, " channel_and_weight"]:
    """``sum_n e^(-rho_n) s(X_n)`` and, last, ``sum_n e^(-rho_n)``, whose ratio is a softmax over all samples."""
    salience = x.abs().amax(dim=1).double()
    weights = torch.exp(-spearman_rho(salience, weight_salience.double()))
    return torch.cat([weights @ salience, weights.sum()[None]])
