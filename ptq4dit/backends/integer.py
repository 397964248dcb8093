"""A quantized DiT whose step runs on integer matrix products; stands wherever a bundle's transformer does."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from jaxtyping import Float, Int
from torch import Tensor, nn

from ptq4dit.model.forward import Modulation, modulate

Step = Callable[[Tensor, Modulation], Tensor]
"""(latents, modulation of each row) -> the transformer's output."""


class IntegerTransformer(nn.Module):
    """What diffusers' ``DiTTransformer2DModel`` is to a float bundle.

    Attributes:
        twin: the simulated model that it was made from; timestep and class are embedded with its modules.
        step: runs the blocks on integers.
        runtime: what runs them, such as ``"OpenVINO 2026.4.1, CPU"``.
        ptq4dit_record: how the model was quantized.
    """

    def __init__(self, twin: Any, step: Step, runtime: str, release: Callable[[], None] | None = None) -> None:
        """Put the parts together.

        Args:
            twin, step, runtime: see the attributes.
            release: called after each use of the twin, to give back memory that it needs then only.
        """
        super().__init__()
        self._release = release or (lambda: None)
        self.twin, self.step, self.runtime = twin, step, runtime
        self.ptq4dit_record = twin.ptq4dit_record
        self.eval()

    @property
    def config(self) -> Any:
        """The twin's diffusers config."""
        return self.twin.config

    @property
    def device(self) -> torch.device:
        """Where inputs are expected."""
        return self.twin.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the inputs and outputs."""
        return self.twin.dtype

    def modulate(self, timesteps: Int[Tensor, " row"], labels: Int[Tensor, " row"]) -> Modulation:
        """All blocks' modulations of some (timestep, class) pairs; see `forward.modulate`."""
        result = modulate(self.twin, timesteps, labels)
        self._release()
        return result

    @torch.no_grad()
    def predict(
        self, latents: Float[Tensor, "row channel height width"], modulation: Modulation
    ) -> Float[Tensor, "row out_channel height width"]:
        """The output for these latents, the blocks run on integers; see `forward.predict`."""
        return self.step(latents, modulation)

    def forward(
        self,
        hidden_states: Float[Tensor, "row channel height width"],
        timestep: Int[Tensor, "*row"],
        class_labels: Int[Tensor, " row"],
        return_dict: bool = True,
    ) -> Any:
        """As diffusers' model is called; ``.sample`` is the output."""
        timesteps = torch.as_tensor(timestep, device=hidden_states.device).expand(len(hidden_states))
        sample = self.predict(hidden_states, self.modulate(timesteps, class_labels))
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)
