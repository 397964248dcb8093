"""Tiny random transformers of every family, with an example call each: all weights random, forwards in milliseconds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ptq4dit.model.families.absorber import absorbed_channels, shared_maximum, split_factor
from ptq4dit.model.families.family import Call
from ptq4dit.model.families.registry import family_of

WIDTH, HEADS = 16, 2


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A model of one family: how to build it and how to call it, for a batch of two."""

    build: Callable[[], torch.nn.Module]
    inputs: Callable[[Callable[..., torch.Tensor]], dict[str, Any]]


def tiny(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[torch.nn.Module, Call]:
    """A random model of `TINY` and an example call, both in ``dtype``."""
    recipe = TINY[name]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    transformer = recipe.build().eval()
    randomize(transformer, generator)
    torch.nn.Module.to(transformer, dtype)
    inputs = recipe.inputs(lambda *shape: torch.randn(shape, generator=generator).to(dtype))
    return transformer, Call(kwargs=inputs | {"return_dict": False})


@torch.no_grad()
def randomize(transformer: torch.nn.Module, generator: torch.Generator) -> None:
    """Every parameter random, gains of norms around one: what begins at zero would make tests trivial."""
    for name, parameter in transformer.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise / parameter.shape[1:].numel() ** 0.5)
        else:
            parameter.copy_(0.3 * noise + (1 if name.endswith("weight") else 0))


def random_factors(transformer: torch.nn.Module, seed: int = 3, spread: float = 4.0) -> dict[str, torch.Tensor]:
    """Factors between 1 / spread and spread for every site that absorbs some, all that `reparameterize` accepts."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for name, site in family_of(transformer).sites(transformer).items():
        channels = transformer.get_submodule(site.paths[0]).weight.shape[1]
        if site.tied_to is None and absorbed_channels(site.absorber, channels).any():
            exponent = 2 * torch.rand(channels, generator=generator, dtype=torch.float64) - 1
            factors[name] = split_factor(site.absorber, shared_maximum(site.absorber, spread**exponent))[0]
    return factors


def output_of(transformer: torch.nn.Module, call: Call) -> torch.Tensor:
    """All values of the output of a call, in one row."""
    with torch.no_grad():
        output = call.on(transformer)[0]
    return torch.cat([part.flatten() for part in output]) if isinstance(output, list) else output.flatten()


def relative_difference(before: torch.Tensor, after: torch.Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((after.double() - before.double()).abs().max() / before.double().abs().max())


def _dit(**config: Any) -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import DiTTransformer2DModel

        sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 4, "num_layers": 2}
        extra = {"sample_size": 8, "num_embeds_ada_norm": 5, "norm_num_groups": 4}
        return DiTTransformer2DModel(**(sizes | extra | config))

    return Tiny(
        build=build,
        inputs=lambda randn: {
            "hidden_states": randn(2, 4, 8, 8),
            "timestep": torch.tensor([7, 900]),
            "class_labels": torch.tensor([1, 4]),
        },
    )


def _pixart(**config: Any) -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import PixArtTransformer2DModel

        sizes = {"num_attention_heads": HEADS, "attention_head_dim": 12, "in_channels": 4, "num_layers": 2}
        extra = {"sample_size": 8, "cross_attention_dim": 24, "caption_channels": 12}
        return PixArtTransformer2DModel(**(sizes | extra | config))

    def inputs(randn: Callable[..., torch.Tensor]) -> dict[str, Any]:
        conditions = {"resolution": torch.full((2, 2), 64.0), "aspect_ratio": torch.ones(2, 1)}
        return {
            "hidden_states": randn(2, 4, 8, 8),
            "encoder_hidden_states": randn(2, 5, 12),
            "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
            "timestep": torch.tensor([7, 900]),
            "added_cond_kwargs": conditions if config.get("use_additional_conditions") else {},
        }

    return Tiny(build=build, inputs=inputs)


def _sd3(**config: Any) -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import SD3Transformer2DModel

        sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 4, "num_layers": 3}
        extra = {"sample_size": 8, "joint_attention_dim": 12, "caption_projection_dim": WIDTH, "out_channels": 4}
        return SD3Transformer2DModel(
            **(sizes | extra | {"pooled_projection_dim": 10, "pos_embed_max_size": 8} | config)
        )

    return Tiny(
        build=build,
        inputs=lambda randn: {
            "hidden_states": randn(2, 4, 8, 8),
            "encoder_hidden_states": randn(2, 5, 12),
            "pooled_projections": randn(2, 10),
            "timestep": torch.tensor([7, 900]),
        },
    )


def _flux(**config: Any) -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import FluxTransformer2DModel

        sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 4, "num_layers": 2}
        extra = {"num_single_layers": 2, "joint_attention_dim": 12, "pooled_projection_dim": 10}
        return FluxTransformer2DModel(**(sizes | extra | {"axes_dims_rope": (2, 2, 4)} | config))

    def inputs(randn: Callable[..., torch.Tensor]) -> dict[str, Any]:
        image_ids = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0))
        guidance = {"guidance": randn(2).abs() * 4} if config.get("guidance_embeds") else {}
        return guidance | {
            "hidden_states": randn(2, 16, 4),
            "encoder_hidden_states": randn(2, 5, 12),
            "pooled_projections": randn(2, 10),
            "timestep": randn(2).abs(),
            "img_ids": image_ids,
            "txt_ids": torch.zeros(5, 3),
        }

    return Tiny(build=build, inputs=inputs)


def _sana(**config: Any) -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import SanaTransformer2DModel

        sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 4, "num_layers": 2}
        cross = {"num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": WIDTH}
        extra = {"out_channels": 4, "caption_channels": 12, "sample_size": 8}
        return SanaTransformer2DModel(**(sizes | cross | extra | config))

    return Tiny(
        build=build,
        inputs=lambda randn: {
            "hidden_states": randn(2, 4, 8, 8),
            "encoder_hidden_states": randn(2, 5, 12),
            "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
            "timestep": torch.tensor([7, 900]),
        },
    )


def _lumina2(**config: Any) -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import Lumina2Transformer2DModel

        sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_kv_heads": 2, "num_layers": 2, "multiple_of": 4}
        extra = {"sample_size": 8, "in_channels": 4, "num_refiner_layers": 1, "cap_feat_dim": 12}
        rotation = {"axes_dim_rope": (4, 2, 2), "axes_lens": (16, 8, 8)}
        return Lumina2Transformer2DModel(**(sizes | extra | rotation | config))

    return Tiny(
        build=build,
        inputs=lambda randn: {
            "hidden_states": randn(2, 4, 8, 8),
            "encoder_hidden_states": randn(2, 5, 12),
            "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
            "timestep": torch.tensor([0.1, 0.7]),
        },
    )


def _z_image() -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import ZImageTransformer2DModel

        sizes = {"dim": 24, "n_heads": 3, "n_kv_heads": 3, "n_layers": 2, "n_refiner_layers": 1, "in_channels": 4}
        return ZImageTransformer2DModel(**sizes, cap_feat_dim=12, axes_dims=[4, 2, 2], axes_lens=[64, 8, 8])

    return Tiny(
        build=build,
        inputs=lambda randn: {
            "x": [randn(4, 1, 8, 8), randn(4, 1, 8, 8)],
            "t": torch.tensor([0.1, 0.7]),
            "cap_feats": [randn(5, 12), randn(3, 12)],
        },
    )


def _qwen() -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import QwenImageTransformer2DModel

        sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 4, "out_channels": 1}
        return QwenImageTransformer2DModel(**sizes, num_layers=2, joint_attention_dim=12, axes_dims_rope=(2, 2, 4))

    return Tiny(
        build=build,
        inputs=lambda randn: {
            "hidden_states": randn(2, 16, 4),
            "encoder_hidden_states": randn(2, 5, 12),
            "encoder_hidden_states_mask": torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]).bool(),
            "timestep": torch.tensor([0.1, 0.7]),
            "img_shapes": [[(1, 4, 4)]] * 2,
        },
    )


def _wan() -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import WanTransformer3DModel

        sizes = {"num_attention_heads": HEADS, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4}
        return WanTransformer3DModel(**sizes, text_dim=12, freq_dim=16, ffn_dim=32, num_layers=2, rope_max_seq_len=16)

    return Tiny(
        build=build,
        inputs=lambda randn: {
            "hidden_states": randn(2, 4, 2, 4, 4),
            "encoder_hidden_states": randn(2, 5, 12),
            "timestep": torch.tensor([7, 900]),
        },
    )


def _ltx() -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import LTXVideoTransformer3DModel

        sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4}
        return LTXVideoTransformer3DModel(**sizes, num_layers=2, cross_attention_dim=WIDTH, caption_channels=12)

    return Tiny(
        build=build,
        inputs=lambda randn: {
            "hidden_states": randn(2, 2 * 4 * 4, 4),
            "encoder_hidden_states": randn(2, 5, 12),
            "encoder_attention_mask": torch.ones(2, 5),
            "timestep": torch.tensor([7, 900]),
            "num_frames": 2,
            "height": 4,
            "width": 4,
        },
    )


def _cogvideox() -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import CogVideoXTransformer3DModel

        sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4}
        video = {"sample_width": 8, "sample_height": 8, "sample_frames": 5, "max_text_seq_length": 5}
        return CogVideoXTransformer3DModel(**sizes, **video, num_layers=2, text_embed_dim=12, time_embed_dim=8)

    return Tiny(
        build=build,
        inputs=lambda randn: {
            "hidden_states": randn(2, 2, 4, 8, 8),
            "encoder_hidden_states": randn(2, 5, 12),
            "timestep": torch.tensor([7, 900]),
        },
    )


def _hunyuan_dit() -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import HunyuanDiT2DModel

        sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 4, "patch_size": 2}
        text = {"cross_attention_dim": 12, "cross_attention_dim_t5": 16, "text_len": 5, "text_len_t5": 3}
        extra = {"sample_size": 8, "hidden_size": WIDTH, "num_layers": 4, "pooled_projection_dim": 8}
        return HunyuanDiT2DModel(**sizes, **text, **extra, use_style_cond_and_image_meta_size=False)

    return Tiny(
        build=build,
        inputs=lambda randn: {
            "hidden_states": randn(2, 4, 8, 8),
            "timestep": randn(2).abs() * 500,
            "encoder_hidden_states": randn(2, 5, 12),
            "text_embedding_mask": torch.ones(2, 5),
            "encoder_hidden_states_t5": randn(2, 3, 16),
            "text_embedding_mask_t5": torch.ones(2, 3),
            "image_rotary_emb": (randn(16, 8), randn(16, 8)),
        },
    )


def _auraflow() -> Tiny:
    def build() -> torch.nn.Module:
        from diffusers import AuraFlowTransformer2DModel

        sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4}
        layers = {"num_mmdit_layers": 2, "num_single_dit_layers": 2, "sample_size": 8, "pos_embed_max_size": 16}
        return AuraFlowTransformer2DModel(**sizes, **layers, joint_attention_dim=12, caption_projection_dim=WIDTH)

    return Tiny(
        build=build,
        inputs=lambda randn: {
            "hidden_states": randn(2, 4, 8, 8),
            "encoder_hidden_states": randn(2, 5, 12),
            "timestep": torch.tensor([0.1, 0.7]),
        },
    )


TINY: dict[str, Tiny] = {
    "dit": _dit(),
    "dit, affine norms": _dit(norm_elementwise_affine=True),
    "pixart-alpha": _pixart(use_additional_conditions=True),
    "pixart-sigma": _pixart(),
    "pixart, gated": _pixart(activation_fn="geglu"),
    "sd3": _sd3(),
    "sd3.5": _sd3(qk_norm="rms_norm", dual_attention_layers=(0, 1)),
    "flux": _flux(),
    "flux, guided": _flux(guidance_embeds=True),
    "sana": _sana(),
    "sana, qk norm": _sana(qk_norm="rms_norm_across_heads", norm_elementwise_affine=True),
    "lumina2": _lumina2(num_kv_heads=4),
    "lumina2, grouped": _lumina2(),
    "z-image": _z_image(),
    "qwen": _qwen(),
    "wan": _wan(),
    "ltx": _ltx(),
    "cogvideox": _cogvideox(),
    "hunyuan-dit": _hunyuan_dit(),
    "auraflow": _auraflow(),
}
GENERIC = ("wan", "ltx", "cogvideox", "hunyuan-dit", "auraflow")
KNOWN = tuple(name for name in TINY if name not in GENERIC)
VARIANTS = ("dit, affine norms", "pixart-alpha", "pixart, gated", "sd3", "flux, guided", "sana, qk norm", "lumina2")
"""Families that are there once more, with another option."""
ONE_EACH = tuple(name for name in TINY if name not in VARIANTS)
