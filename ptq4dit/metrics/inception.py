"""Inception's features of pictures, for models of ImageNet: by torch-fidelity, an optional package."""

import importlib

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.model.hooks import Hooks

SPATIAL_CHANNELS = 7
"""Of the map that sFID (Nash et al. 2021) takes, as in ADM's evaluation: 7 x 17 x 17 = 2023 features."""
_SPATIAL_LAYER = "Mixed_6d.branch1x1"
"""ADM's ``mixed_6/conv:0``, after its ReLU."""
_ASKED = ("2048", "logits_unbiased")


class Inception(nn.Module):
    """The InceptionV3 behind published FIDs, with the interface of `SceneClassifier`.

    Attributes:
        network: torch-fidelity's ``FeatureExtractorInceptionV3``, or anything that maps uint8 pictures to (pooled
            features, logits) and has a layer ``Mixed_6d.branch1x1``.
        knows_labels: False: its 1008 outputs are not in the order of ImageNet's class indices.
    """

    knows_labels = False

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval()

    @staticmethod
    def load(device: str | torch.device = "cpu") -> "Inception":
        """With the weights that torch-fidelity fetches, once, when it is first used.

        Raises:
            ValueError: if torch-fidelity is not installed, or its weights cannot be fetched.
        """
        try:
            module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        except ImportError as error:
            raise ValueError(
                "Expected torch-fidelity, which has the Inception that FID is defined by, got no such package "
                f"({error}). Install it: pip install torch-fidelity."
            ) from error
        try:
            network = module.FeatureExtractorInceptionV3("inception-v3-compat", list(_ASKED))
        except OSError as error:
            raise ValueError(
                f"Expected Inception's weights from torch-fidelity, which could not be fetched: {error}. Go online."
            ) from error
        return Inception(network).to(device)

    @torch.inference_mode()
    def extract(
        self, pictures: Float[Tensor, "n 3 height width"]
    ) -> tuple[Float[Tensor, "n feature"], Float[Tensor, "n spatial"], Float[Tensor, "n label"]]:
        """Pooled features, spatial features and logits of pictures in [0, 1], which are rounded to 8 bits first."""
        levels = (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
        caught: list[Tensor] = []
        with Hooks() as hooks:
            hooks.after(
                self.network.get_submodule(_SPATIAL_LAYER), lambda _module, _args, output: caught.append(output)
            )
            pooled, logits = self.network(levels)
        return pooled.float(), caught[0][:, :SPATIAL_CHANNELS].flatten(1).float(), logits.float()
