"""How a DiT spaces the frequencies of its timestep embedding: as diffusers does, or as the authors' weights want it.

Both use ``w_k = 10000^(-k / n)`` for k = 0 ... 127. diffusers' ``DiTTransformer2DModel`` has n = 127, the authors'
model n = 128; weights are right for the spacing that they were trained with only.
"""

from typing import Any, Literal, get_args

from torch import nn

from ptq4dit.storage.official_files import SUFFIXES

Frequencies = Literal["diffusers", "official"]
_SHIFT: dict[str, int] = {"diffusers": 1, "official": 0}


def set_frequencies(transformer: nn.Module, frequencies: Frequencies) -> None:
    """Set the spacing on the embedders of all blocks, in place; the class stays diffusers' own.

    Raises:
        ValueError: for an unknown name.
    """
    if frequencies not in _SHIFT:
        raise ValueError(f"Expected frequencies to be one of {get_args(Frequencies)}, got {frequencies!r}.")
    for projection in _projections(transformer):
        projection.downscale_freq_shift = _SHIFT[frequencies]


def frequencies_of(transformer: nn.Module) -> Frequencies:
    """The spacing that a transformer uses; of other models than the DiT diffusers' own."""
    projections = _projections(transformer)
    return "official" if projections and projections[0].downscale_freq_shift == 0 else "diffusers"


def trained_with(source: str) -> Frequencies:
    """The spacing that a source's weights were trained with: the authors' for their files and hub repositories.

    Args:
        source: a path or hub id; checkpoint files, names that end in ``DiT-XL-2-256`` or ``-512`` (the hub's, and
            folders that keep the repository's name) and the hub's cache of these are the authors'.
    """
    parts = source.replace("\\", "/").rstrip("/").split("/")
    name = parts[-3] if parts[-2:-1] == ["snapshots"] and len(parts) > 2 else parts[-1]
    return "official" if name.endswith((*SUFFIXES, "DiT-XL-2-256", "DiT-XL-2-512")) else "diffusers"


def _projections(transformer: nn.Module) -> list[Any]:
    """The sinusoids inside a DiT's blocks; none in models that embed their timestep outside."""
    blocks = getattr(transformer, "transformer_blocks", None)
    if not isinstance(blocks, nn.ModuleList) or getattr(getattr(blocks[0], "norm1", None), "emb", None) is None:
        return []
    return [block.get_submodule("norm1.emb.time_proj") for block in blocks]
