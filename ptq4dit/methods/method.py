"""What a method is: its name, where it was published, what it changes in a config, and how it makes a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from ptq4dit.calibration.run import Cancelled
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.calibration.trajectories import Trajectories
from ptq4dit.config.quantization import LayerConfig, QuantConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.model.layers import Layer
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.quantized.balance import absorbed, layer_settings
from ptq4dit.quantized.convert import convert, quantized_layers
from ptq4dit.reconstruction.run import reconstruct
from ptq4dit.reconstruction.training import training_data


@dataclass(kw_only=True)
class Job:
    """One model to make.

    Attributes:
        dit: the float bundle.
        stats: its calibration.
        config: what `Method.prepare` made of the wish.
        given_data: inputs of the transformer along sampling runs, if somebody has them already.
        progress: called with (done, in all) while blocks are reconstructed.
        cancelled: asked between pieces of work.
        folder: where reconstruction keeps its state, to go on after a stop.
        offload: where the integers go of a model whose weights are on disk.
    """

    dit: Dit
    stats: Calibration
    config: QuantConfig
    given_data: Trajectories | None = None
    progress: Callable[..., None] | None = None
    cancelled: Callable[[], bool] | None = None
    folder: Path | None = None
    offload: Path | None = None

    def check(self) -> None:
        """Raise `Cancelled` once somebody asked to stop; called between pieces of work."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled(f"Making {self.config.method} was cancelled.")

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The layers that are quantized, of the float model."""
        return quantized_layers(self.dit.transformer, self.config)

    @property
    def sites(self) -> dict[str, Layer]:
        """Those of them that can be balanced."""
        return {name: layer for name, layer in self.layers.items() if layer.inside}

    def settings(self, name: str) -> LayerConfig:
        """How a layer is quantized."""
        return layer_settings(self.layers[name], self.config)

    @cached_property
    def data(self) -> Trajectories:
        """Inputs of the transformer, sampled now if nobody gave them; as many as reconstruction asks for."""
        if self.given_data is not None:
            return self.given_data
        if self.dit.scheduler is None:
            raise ValueError(
                f"{self.config.method} learns from calls of the model, got a transformer without a pipeline to make "
                "them with. Pass data=..., choose a method that learns nothing, or quantize the whole pipeline."
            )
        settings = self.config.reconstruction
        return training_data(self.dit, self.stats.config, settings, cancelled=self.cancelled, folder=self.folder)

    def converted(
        self,
        factors: Mapping[str, Tensor] | None = None,
        *,
        dit: Dit | None = None,
        stats: Calibration | None = None,
        config: QuantConfig | None = None,
    ) -> Dit:
        """The model with factors folded and everything rounded to nearest; what every method starts from.

        Args:
            factors: site name -> ``b_x``.
            dit, stats, config: other ones than the job's.
        """
        parts = dit or self.dit, stats or self.stats, config or self.config
        return convert(*parts, factors, layers=self.layers, offload=self.offload)

    def reconstructed(
        self, model: Dit, factors: Mapping[str, Tensor] | None = None, transformer: nn.Module | None = None
    ) -> Dit:
        """The model with its rounding learned block by block, if the config asks for it.

        Args:
            model: what `convert` made; it is changed.
            factors: those that `convert` was given.
            transformer: the float transformer they were folded into, if not the given one.
        """
        if self.config.reconstruction is None:
            return model
        exact, folded = transformer or self.dit.transformer, absorbed(factors or {}, self.layers)
        return reconstruct(
            self.dit.with_transformer(reparameterize(exact, folded) if folded else exact),
            model,
            self.data,
            self.config.reconstruction,
            progress=self.progress,
            cancelled=self.cancelled,
            folder=self.folder,
            in_place=True,
        )


@dataclass(frozen=True, kw_only=True)
class Method:
    """A recipe.

    Attributes:
        name: as in ``QuantConfig.method``.
        title: as a table shows it.
        citation: authors, year, arXiv number.
        summary: what it does, in one sentence.
        inference: what it adds to the work of a static integer model; ``"nothing"`` for many.
        prepare: the config that it uses, made from the wanted one; bits and the choice of layers stay.
        run: makes the model.
        place: where tables show it: from low to high.
        learns: whether its published form learns its rounding: ``"shared"`` by the reconstruction that the config
            gives, ``"own"`` by one that it brings, with data of its own.
        reconstructs: whether it learns the rounding where the config asks for that.
        options: names of the settings that only it knows (``QuantConfig.options``).
        balances_inputs: whether it has factors for inputs that nothing in front can balance, where the config asks.
    """

    name: str
    title: str
    citation: str
    summary: str
    inference: str
    prepare: Callable[[QuantConfig], QuantConfig]
    run: Callable[[Job], Dit]
    place: int
    learns: Literal["nothing", "shared", "own"] = "nothing"
    reconstructs: bool = True
    options: tuple[str, ...] = ()
    balances_inputs: bool = False

    def prepared(self, config: QuantConfig) -> QuantConfig:
        """The config that it uses.

        Raises:
            ValueError: if the wanted one asks for what this method does not do.
        """
        known = {*self.options, "softmax"}
        if unknown := sorted(set(dict(config.options)) - known):
            raise ValueError(f"Expected options of {self.title} among {sorted(known)}, got {unknown}.")
        if config.reconstruction is not None and not self.reconstructs:
            raise ValueError(f"{self.title} learns no rounding: set reconstruction=None, or choose another method.")
        if config.balance_inputs and not self.balances_inputs:
            raise ValueError(
                f"{self.title} has no factors for fc2 or what else nothing absorbs: set balance_inputs=False "
                "(balance_fc2=False), or choose another method."
            )
        return self.prepare(config)
