"""The authors' own checkpoints, such as ``DiT-XL-2-256x256.pt``, as diffusers' unmodified ``DiTTransformer2DModel``.

So are those that the authors' training script writes, whose weights stand beside an optimizer and its arguments. They
are files of strangers: torch's restricted unpickler reads them, which runs no code that they may hold.
"""

import math
import re
from collections.abc import Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel
from torch import Tensor

from ptq4dit.model.loading import loading
from ptq4dit.storage.official_files import is_official_name
from ptq4dit.storage.untrusted import read_untrusted, require_dense

VAE = "stabilityai/sd-vae-ft-ema"
"""The autoencoder that the authors' models were trained with."""
_IN_BLOCK = {
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm1.linear",
}
_OUTSIDE = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
_EMBEDDERS = {
    "t_embedder.mlp.0": "timestep_embedder.linear_1",
    "t_embedder.mlp.2": "timestep_embedder.linear_2",
    "y_embedder.embedding_table": "class_embedder.embedding_table",
}
_POSITIONS = "pos_embed"
_SHAPES = {
    **{"x_embedder.proj.weight": 4, _POSITIONS: 3},
    **{"final_layer.linear.weight": 2, "y_embedder.embedding_table.weight": 2},
}
"""Tensors whose shapes tell the architecture, and how many axes they have."""


class LazyVae:
    """An autoencoder that is fetched when it is first used, and is otherwise diffusers' own ``AutoencoderKL``."""

    def __init__(self, source: str, dtype: torch.dtype, device: str | torch.device) -> None:
        self.source, self._dtype, self._device = source, dtype, device

    @cached_property
    def loaded(self) -> AutoencoderKL:
        """The autoencoder.

        Raises:
            ValueError: if it cannot be had.
        """
        try:
            with loading():
                vae = AutoencoderKL.from_pretrained(self.source, torch_dtype=self._dtype)
        except OSError as error:
            raise ValueError(
                f"Expected the autoencoder {self.source!r} to be reachable: a .pt file brings none, and pictures need "
                f'one. Give a local folder: ptq4dit.load(..., vae="folder"). The reason: {error}'
            ) from error
        return vae.to(self._device).eval()

    def to(self, device: str | torch.device) -> "LazyVae":
        """Move it, now or when it is fetched."""
        self._device = device
        if "loaded" in vars(self):
            self.loaded.to(device)
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.loaded, name)


def is_official(source: str) -> bool:
    """Whether a source is named like a checkpoint file of its own, and not a folder or a hub id."""
    return is_official_name(str(source)) and not Path(source).is_dir()


def read_official(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, mapped from disk where its format allows, without running any code that it may hold.

    Smoothed weights (``"ema"``) go before the others; ``module.`` in front of names is left out.

    Raises:
        ValueError: if it is missing, damaged, holds what could run code, or is no DiT.
    """
    if not path.is_file():
        raise ValueError(f"Expected a checkpoint file, got {str(path)!r}, which does not exist.")
    content = read_untrusted(path)
    for name in ("ema", "model", "state_dict"):
        content = content[name] if isinstance(content, Mapping) and isinstance(content.get(name), Mapping) else content
    state = {_bare(name): value for name, value in content.items()} if isinstance(content, Mapping) else {}
    lacking = [name for name in _SHAPES if name not in state]
    if lacking or not all(isinstance(value, Tensor) for value in state.values()):
        what = f"one without {lacking[0]!r}" if lacking else "one with other things than tensors"
        raise ValueError(f"Expected the state dict of a DiT in {str(path)!r}, got {what}.")
    require_dense(path, state)
    return state


def _bare(name: Any) -> str:
    """A tensor's name without what wrappers put in front of it."""
    return re.sub(r"^((module|_orig_mod)\.)+", "", str(name))


def architecture(state: Mapping[str, Tensor], heads: int | None = None) -> dict[str, Any]:
    """diffusers' config for an official state dict.

    Args:
        state: what `read_official` gave.
        heads: attention heads, which no shape tells; None for 16 at width 1152 and one for each 64 channels otherwise,
            as in the authors' XL, L, B and S.

    Raises:
        ValueError: if shapes do not fit together.
    """
    for name, axes in _SHAPES.items():
        if state[name].ndim != axes or not state[name].numel():
            raise ValueError(f"Expected {name!r} with {axes} axes and values, got shape {tuple(state[name].shape)}.")
    width, channels, patch = state["x_embedder.proj.weight"].shape[:3]
    heads = heads or (16 if width == 1152 else width // 64)
    side = math.isqrt(state[_POSITIONS].shape[1])
    outputs = state["final_layer.linear.weight"].shape[0] // patch**2
    if side**2 != state[_POSITIONS].shape[1] or not isinstance(heads, int) or heads < 1 or width % heads:
        raise ValueError(f"Expected a square grid of patches and heads that divide {width}, got {heads!r} heads.")
    return {
        "num_attention_heads": heads,
        "attention_head_dim": width // heads,
        "in_channels": channels,
        "out_channels": outputs,
        "num_layers": _count_blocks(state),
        "patch_size": patch,
        "sample_size": side * patch,
        "num_embeds_ada_norm": state["y_embedder.embedding_table.weight"].shape[0] - 1,
        "norm_eps": 1e-6,
    }


def _count_blocks(state: Mapping[str, Tensor]) -> int:
    """How many blocks have tensors; none may be left out, so that there are no more than the file has names."""
    found = {int(match[1]) for name in state if (match := re.match(r"blocks\.(\d{1,9})\.", name))}
    if not found:
        raise ValueError("Expected the blocks of a DiT in the official checkpoint, got none. It is not a whole DiT.")
    if max(found) + 1 != len(found):
        raise ValueError(
            f"Expected blocks 0 to {len(found) - 1} in the official checkpoint, got one with number {max(found)}. It "
            "is not a whole DiT."
        )
    return len(found)


def convert_official(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """An official state dict under diffusers' names: q, k, v split, the embedders shared by all blocks.

    Args:
        state: official names -> tensors.
        layers: number of blocks.

    Raises:
        ValueError: if a tensor is missing or left over.
    """
    rest, result = dict(state), {}
    rest.pop(_POSITIONS, None)

    def take(name: str) -> Tensor:
        if name not in rest:
            raise ValueError(f"Expected {name!r} in the official checkpoint, which has none. It is not a whole DiT.")
        return rest.pop(name)

    for old, new in _OUTSIDE.items():
        for kind in ("weight", "bias"):
            result[f"{new}.{kind}"] = take(f"{old}.{kind}")
    for old, new in _EMBEDDERS.items():
        for kind in ("weight",) if old.startswith("y_") else ("weight", "bias"):
            tensor = take(f"{old}.{kind}")
            result |= {f"transformer_blocks.{i}.norm1.emb.{new}.{kind}": tensor for i in range(layers)}
    for block in range(layers):
        for kind in ("weight", "bias"):
            for old, new in _IN_BLOCK.items():
                result[f"transformer_blocks.{block}.{new}.{kind}"] = take(f"blocks.{block}.{old}.{kind}")
            parts = take(f"blocks.{block}.attn.qkv.{kind}").chunk(3)
            for part, tensor in zip("qkv", parts, strict=True):
                result[f"transformer_blocks.{block}.attn1.to_{part}.{kind}"] = tensor
    if rest:
        raise ValueError(f"Expected the tensors of a DiT only, got also {sorted(rest)[:5]}.")
    return result


def load_official(path: Path, dtype: torch.dtype = torch.float32, heads: int | None = None) -> DiTTransformer2DModel:
    """An official file as a diffusers transformer; timestep frequencies are left to `frequencies.set_frequencies`.

    The eps of the second normalization is the authors' 1e-6 through ``norm_eps``. The embedders of all blocks are one
    tensor in memory.

    Raises:
        ValueError: for a file that is no DiT, lacks or adds a tensor, has a wrong shape or another position table.
    """
    state = read_official(path)
    config = architecture(state, heads)
    own = convert_official(state, config["num_layers"])
    with torch.device("meta"):
        transformer = DiTTransformer2DModel(**config)
    small = DiTTransformer2DModel(**(config | {"num_layers": 1, "num_embeds_ada_norm": 1}))
    table = small.pos_embed.pos_embed
    close = 1e-4 if state[_POSITIONS].dtype in (torch.float32, torch.float64) else 1e-2
    if state[_POSITIONS].shape != table.shape or (state[_POSITIONS] - table).abs().max() > close:
        raise ValueError(f"Expected the sine-cosine position table of a DiT in {str(path)!r}, got another one.")
    for name, expected in transformer.state_dict().items():
        if name in own and own[name].shape != expected.shape:
            raise ValueError(f"Expected {name} of shape {tuple(expected.shape)}, got {tuple(own[name].shape)}.")
    shared = {id(tensor): tensor.to(dtype) for tensor in own.values()}
    try:
        transformer.load_state_dict({n: shared[id(t)] for n, t in own.items()}, strict=True, assign=True)
    except RuntimeError as error:
        raise ValueError(f"Expected exactly the tensors of a DiT in {str(path)!r}: {error}") from error
    transformer.pos_embed.pos_embed = table.to(dtype)
    return transformer.eval()


def official_scheduler() -> DDIMScheduler:
    """The authors' noise schedule: 1,000 steps, beta linear from 0.0001 to 0.02."""
    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear", clip_sample=False
    )


def imagenet_labels() -> dict[int, str]:
    """The 1,000 class names of ImageNet, by index."""
    lines = resources.files("ptq4dit").joinpath("imagenet_labels.txt").read_text(encoding="utf-8").splitlines()
    return dict(enumerate(lines))
