"""Watch the inputs of a transformer's layers while it samples: running extremes, a few rows, nothing that grows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ptq4dit.calibration.call import rows_of, timestep_of
from ptq4dit.calibration.statistics import Calibration, layer_weight_salience, to_half
from ptq4dit.calibration.unbalanced import ExtraRanges
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.families.family import Call
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.model.hooks import Hooks, first_argument
from ptq4dit.model.layers import Layer, balanced_layers
from ptq4dit.paper.ssc import spearman_rho

Keys = Callable[[int, int, int, int], Float64[Tensor, "row token"]]
"""(position, call at this position, rows, tokens of a row) -> a random priority for every token of the batch."""


class Recorder:
    """Running per-channel extremes and a bounded uniform sample of rows, per layer and observed timestep.

    Which timestep a forward pass belongs to is read off its ``timestep`` argument: nobody has to say it beforehand,
    and guidance in one batch or in two calls is the same. Every token gets a random key; the rows with the highest
    keys so far are kept. Layers with equally many tokens keep the same ones.
    """

    def __init__(self, transformer: nn.Module, config: CalibrationConfig, keys: Keys) -> None:
        """Nothing is watched yet.

        Args:
            transformer: a float transformer.
            config: how many rows are kept.
            keys: draws the tokens' priorities.
        """
        self.config, self.transformer, self.keys = config, transformer, keys
        self.timesteps: list[float] = []
        self.integer_timesteps = True
        self.layers: dict[str, Layer] = {}
        self.example: Call | None = None
        self.samples = 0
        self._seen: dict[str, dict[int, _Seen]] = {}
        self._visited: list[float] = []
        self._calls: dict[int, int] = {}
        self._observed: list[int] | None = None
        self._position: int | None = None
        self._drawn: dict[int, Tensor] = {}
        self._rows = 0
        self._looking = False
        self._extras = ExtraRanges()

    def begin(self, positions: list[int] | None = None) -> None:
        """A new trajectory starts.

        Args:
            positions: which of its timesteps, counted as the model visits them from 0, are observed; None for all.
        """
        self._visited, self._calls, self._observed = [], {}, positions

    @contextmanager
    def watching(self, *, everybody: bool = False) -> Iterator[None]:
        """Hook the transformer and its layers' inputs; the hooks are removed whatever happens.

        Args:
            everybody: observe what other threads run, too.
        """
        with Hooks(everybody=everybody) as self._hooks:
            self._hooks.before(self.transformer, self._enter)
            self._hooks.after(self.transformer, self._leave, always=True)
            try:
                yield
            finally:
                self._position = self._extras.position = None

    def _enter(self, transformer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._looking:
            return
        if not self.layers:
            self.example = Call(args=_kept(args), kwargs=_kept(kwargs))
            self._look(transformer, self.example)
        self._position = self._extras.position = self._position_of(timestep_of(transformer, args, kwargs))
        self._extras.enter()
        self._drawn, self._rows = {}, rows_of(args, kwargs)
        if self._position is not None:
            self.samples += self._rows
            self._calls[self._position] = self._calls.get(self._position, -1) + 1

    def _leave(self, _module: nn.Module, _args: object, _output: object) -> None:
        if not self._looking:
            self._extras.leave()

    def _look(self, transformer: nn.Module, call: Call) -> None:
        """Find the layers, by the first call where no family's file names them, and hook them."""
        self._looking = True
        try:
            with torch.no_grad():
                self.layers = balanced_layers(transformer, call)
        finally:
            self._looking = False
        self._seen = {name: {} for name in self.layers}
        self._weight_salience = layer_weight_salience(self.layers)
        self._per_sample = {
            name: torch.zeros(salience.numel() + 1, dtype=torch.float64)
            for name, salience in self._weight_salience.items()
        }
        for name, layer in self.layers.items():
            self._hooks.before(layer.linears[0], partial(self._reached, name))
        self._extras.watch(transformer, self._hooks)

    def _reached(self, name: str, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._observe(name, first_argument(args, kwargs))

    def _position_of(self, timestep: tuple[float, bool]) -> int | None:
        """Which observed timestep a call belongs to, counted over the trajectory."""
        value, whole = timestep
        if value not in self._visited:
            self._visited.append(value)
        step = self._visited.index(value)
        if self._observed is not None and step not in self._observed:
            return None
        if value not in self.timesteps:
            self.timesteps.append(value)
            self.integer_timesteps &= whole
        return self.timesteps.index(value)

    def _observe(self, name: str, x: Tensor) -> None:
        if self._position is None:
            return
        x = _tokens_last(x.detach(), self.layers[name])
        tokens = x.reshape(-1, x.shape[-1])
        keys = self._keys_for(len(tokens))
        seen = self._seen[name].get(self._position)
        self._seen[name][self._position] = _Seen.of(tokens, keys, self.config.rows_per_timestep).joined(
            seen, self.config.rows_per_timestep
        )
        sums = _per_sample_sums(x.reshape(x.shape[0], -1, x.shape[-1]), self._weight_salience[name])
        self._per_sample[name] += sums.cpu()

    def _keys_for(self, tokens: int) -> Tensor:
        if tokens not in self._drawn:
            assert self._position is not None
            rows = self._rows if self._rows and tokens % self._rows == 0 else 1
            self._drawn[tokens] = self.keys(self._position, self._calls[self._position], rows, tokens // rows).flatten()
        return self._drawn[tokens]

    def result(self) -> Calibration:
        """The statistics gathered so far.

        Raises:
            ValueError: if nothing was observed, an activation was not finite, or a layer was not reached at a timestep
                at which others were.
        """
        positions = range(len(self.timesteps))
        if not self.timesteps:
            raise ValueError("Expected at least one forward pass of the transformer to watch, got none. Run it inside.")
        for name, seen in self._seen.items():
            if missing := [self.timesteps[position] for position in positions if position not in seen]:
                raise ValueError(
                    f"Expected {name} to be used at every timestep, got no input of it at {missing[0]}. Switch off "
                    "what skips blocks or caches their outputs while the model is watched."
                )
        low = {name: torch.stack([seen[p].low for p in positions]) for name, seen in self._seen.items()}
        high = {name: torch.stack([seen[p].high for p in positions]) for name, seen in self._seen.items()}
        extra_low, extra_high = (self._extras.stacked(end, len(positions)) for end in ("low", "high"))
        for extremes in (low, high, extra_low, extra_high):
            for name, values in extremes.items():
                if not torch.isfinite(values).all():
                    raise ValueError(
                        f"Expected finite activations, got others into {name}. Load with dtype=torch.float32."
                    )
        kept = {name: min(len(seen[p].keys) for p in positions) for name, seen in self._seen.items()}
        return Calibration(
            config=self.config,
            model=fingerprint(self.transformer),
            timesteps=torch.tensor([int(t) for t in self.timesteps] if self.integer_timesteps else self.timesteps),
            activation_min=low,
            activation_max=high,
            weight_salience={name: s.cpu() for name, s in self._weight_salience.items()},
            samples={
                name: to_half(torch.stack([seen[p].rows[: kept[name]] for p in positions]))
                for name, seen in self._seen.items()
            },
            sample_keys={
                name: torch.stack([seen[p].keys[: kept[name]] for p in positions]) for name, seen in self._seen.items()
            },
            sample_salience={n: (sums[:-1] / sums[-1]).to(low[n]) for n, sums in self._per_sample.items()},
            sample_weight={n: sums[-1].to(low[n]) for n, sums in self._per_sample.items()},
            extra_min=extra_low,
            extra_max=extra_high,
            paths={name: layer.paths for name, layer in self.layers.items()},
            example=self.example,
        )


class _Seen:
    """Extremes of every channel, and the rows with the highest keys, of what passed at one timestep."""

    def __init__(self, low: Tensor, high: Tensor, rows: Tensor, keys: Tensor) -> None:
        self.low, self.high, self.rows, self.keys = low, high, rows, keys

    @staticmethod
    def of(tokens: Float[Tensor, "token channel"], keys: Float64[Tensor, " token"], limit: int) -> "_Seen":
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        best, chosen = keys.topk(min(limit, len(keys)))
        ends = tokens.amin(dim=0).to("cpu", dtype), tokens.amax(dim=0).to("cpu", dtype)
        return _Seen(*ends, tokens[chosen.to(tokens.device)].cpu(), best)

    def joined(self, before: "_Seen | None", limit: int) -> "_Seen":
        """With what was seen before; what came first wins among equal keys."""
        if before is None:
            return self
        keys = torch.cat([before.keys, self.keys])
        best, chosen = keys.topk(min(limit, len(keys)))
        return _Seen(
            torch.minimum(before.low, self.low),
            torch.maximum(before.high, self.high),
            torch.cat([before.rows, self.rows])[chosen],
            best,
        )


def _kept(given: Any) -> Any:
    """Arguments with tensors of their own, since a loop may go on to change its latents in place."""
    return tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), given)


def _tokens_last(x: Tensor, layer: Layer) -> Tensor:
    """``(row, token, channel)`` of any input: a convolution's channels come second, a vector is one token."""
    if isinstance(layer.linears[0], nn.Conv2d):
        return x.flatten(2).transpose(1, 2)
    return x[:, None] if x.ndim == 2 else x


def _per_sample_sums(
    x: Float[Tensor, "sample token channel"], weight_salience: Float[Tensor, " channel"]
) -> Float64[Tensor, " channel_and_weight"]:
    """``sum_n e^(-rho_n) s(X_n)`` and, last, ``sum_n e^(-rho_n)``, whose ratio is a softmax over all samples."""
    salience = x.abs().amax(dim=1).double()
    weights = torch.exp(-spearman_rho(salience, weight_salience.double()))
    return torch.cat([weights @ salience, weights.sum()[None]])
