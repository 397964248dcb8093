"""Tiny random pipelines of the text-conditioned families: whole ones, with text encoders, in milliseconds a step.

Every weight is random, also what diffusers begins with zeros, and the same for the same seed. A pipeline is the stock
class around stock components; it can be saved with ``save_pretrained`` and loaded again. `PIPELINES` lists them by
family; `CALL` holds what a stock call needs beside a prompt to draw the small picture.
"""

import string
from collections.abc import Callable
from typing import Any

import torch

WIDTH, HEADS, BLOCKS = 16, 2, 2
TEXT = 12
"""Width of what the text encoders give."""


def tiny_sd3(seed: int = 0, *, third_encoder: bool = True, **config: Any) -> Any:
    """Stable Diffusion 3: two CLIP encoders and, if wanted, T5; ``config`` overrides the transformer's."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    sizes = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": BLOCKS, "pos_embed_max_size": 8}
    heads = {"num_attention_heads": HEADS, "attention_head_dim": 8, "caption_projection_dim": WIDTH}
    text = {"joint_attention_dim": 2 * TEXT, "pooled_projection_dim": 2 * TEXT}
    with _apart():
        return _random(
            StableDiffusion3Pipeline(
                transformer=SD3Transformer2DModel(**(sizes | heads | text | config)),
                scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
                vae=_vae(shift_factor=0.1),
                text_encoder=_clip_projected(),
                tokenizer=_clip_tokenizer(),
                text_encoder_2=_clip_projected(),
                tokenizer_2=_clip_tokenizer(),
                text_encoder_3=_t5(2 * TEXT) if third_encoder else None,
                tokenizer_3=_t5_tokenizer() if third_encoder else None,
            ),
            seed,
        )


def tiny_pixart(seed: int = 0, **config: Any) -> Any:
    """PixArt-alpha: T5, learned variances, DPM-Solver."""
    from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel

    sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 4, "num_layers": BLOCKS}
    extra = {"sample_size": 8, "cross_attention_dim": WIDTH, "caption_channels": TEXT}
    with _apart():
        return _random(
            PixArtAlphaPipeline(
                tokenizer=_t5_tokenizer(),
                text_encoder=_t5(TEXT),
                vae=_vae(),
                transformer=PixArtTransformer2DModel(**(sizes | extra | config)),
                scheduler=DPMSolverMultistepScheduler(),
            ),
            seed,
        )


def tiny_flux(seed: int = 0, *, guidance_embeds: bool = True, **config: Any) -> Any:
    """FLUX.1: CLIP and T5, guidance-distilled unless told otherwise."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 16, "num_layers": BLOCKS}
    text = {"joint_attention_dim": TEXT, "pooled_projection_dim": TEXT, "guidance_embeds": guidance_embeds}
    extra = {"num_single_layers": BLOCKS, "axes_dims_rope": (2, 2, 4), "patch_size": 1}
    with _apart():
        pipeline = FluxPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            vae=_vae(shift_factor=0.1),
            text_encoder=_clip(),
            tokenizer=_clip_tokenizer(),
            text_encoder_2=_t5(TEXT),
            tokenizer_2=_t5_tokenizer(),
            transformer=FluxTransformer2DModel(**(sizes | text | extra | config)),
        )
        return _random(pipeline, seed)


def tiny_sana(seed: int = 0, **config: Any) -> Any:
    """Sana: Gemma 2, linear attention, a deep-compression autoencoder."""
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

    sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 4, "num_layers": BLOCKS}
    cross = {"num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": WIDTH}
    extra = {"out_channels": 4, "caption_channels": TEXT, "sample_size": 8}
    levels = {"block_out_channels": (8,) * 3, "layers_per_block": (1,) * 3, "qkv_multiscales": ((),) * 3}
    coder = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in levels.items()}
    with _apart():
        return _random(
            SanaPipeline(
                tokenizer=_gemma_tokenizer(),
                text_encoder=_gemma(),
                vae=AutoencoderDC(latent_channels=4, attention_head_dim=4, scaling_factor=0.7, **coder),
                transformer=SanaTransformer2DModel(**(sizes | cross | extra | config)),
                scheduler=DPMSolverMultistepScheduler(
                    prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
                ),
            ),
            seed,
        )


def tiny_lumina2(seed: int = 0, **config: Any) -> Any:
    """Lumina 2: Gemma 2, one stream, an 8x autoencoder."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel

    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_kv_heads": 2, "num_layers": BLOCKS, "multiple_of": 4}
    extra = {"sample_size": 8, "in_channels": 4, "num_refiner_layers": 1, "cap_feat_dim": TEXT}
    rope = {"axes_dim_rope": (4, 2, 2), "axes_lens": (512, 16, 16)}
    with _apart():
        return _random(
            Lumina2Pipeline(
                transformer=Lumina2Transformer2DModel(**(sizes | extra | rope | config)),
                scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
                vae=_vae(levels=4, shift_factor=0.1),
                text_encoder=_gemma(),
                tokenizer=_gemma_tokenizer(),
            ),
            seed,
        )


def tiny_qwen(seed: int = 0, **config: Any) -> Any:
    """Qwen-Image: Qwen 2.5 VL, two streams, a video autoencoder."""
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )

    sizes = {"num_attention_heads": HEADS, "attention_head_dim": 8, "in_channels": 16, "out_channels": 4}
    extra = {"num_layers": BLOCKS, "joint_attention_dim": TEXT, "axes_dims_rope": (2, 2, 4)}
    statistics = {"latents_mean": [0.1] * 4, "latents_std": [0.9] * 4}
    with _apart():
        return _random(
            QwenImagePipeline(
                scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True),
                vae=AutoencoderKLQwenImage(
                    base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False], **statistics
                ),
                text_encoder=_qwen_vl(),
                tokenizer=_qwen_tokenizer(),
                transformer=QwenImageTransformer2DModel(**(sizes | extra | config)),
            ),
            seed,
        )


PIPELINES: dict[str, Callable[..., Any]] = {
    "sd3": tiny_sd3,
    "pixart": tiny_pixart,
    "flux": tiny_flux,
    "sana": tiny_sana,
    "lumina2": tiny_lumina2,
    "qwen": tiny_qwen,
}
CALL: dict[str, dict[str, Any]] = {
    "sd3": {"max_sequence_length": 16},
    "pixart": {"use_resolution_binning": False, "max_sequence_length": 16, "clean_caption": False},
    "flux": {"height": 16, "width": 16, "max_sequence_length": 16},
    "sana": {
        **{"height": 32, "width": 32, "use_resolution_binning": False},
        **{"max_sequence_length": 16, "complex_human_instruction": None},
    },
    "lumina2": {"height": 64, "width": 64, "max_sequence_length": 40, "system_prompt": "s"},
    "qwen": {"height": 16, "width": 16, "max_sequence_length": 256},
}
"""What a stock call needs beside the prompt to draw a tiny picture."""


def _apart() -> Any:
    """Leave the global generator as it was: constructors draw from it."""
    return torch.random.fork_rng(devices=[])


@torch.no_grad()
def _random(pipeline: Any, seed: int) -> Any:
    """Give every parameter of every model a random value: matrices by their fan-in, gains around one."""
    generator = torch.Generator().manual_seed(seed)
    for _, component in sorted(pipeline.components.items()):
        if not isinstance(component, torch.nn.Module):
            continue
        component.eval()
        for name, parameter in component.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter.shape[1:].numel() ** 0.5)
            else:
                parameter.copy_(0.3 * noise + (1 if name.endswith("weight") else 0))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _vae(levels: int = 2, **config: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        scaling_factor=0.7,
        **config,
    )


def _clip_config() -> Any:
    from transformers import CLIPTextConfig

    sizes = {"hidden_size": TEXT, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    tokens = {"vocab_size": 80, "max_position_embeddings": 32, "projection_dim": TEXT}
    return CLIPTextConfig(**sizes, **tokens, bos_token_id=0, eos_token_id=1, pad_token_id=1)


def _clip() -> Any:
    from transformers import CLIPTextModel

    return CLIPTextModel(_clip_config())


def _clip_projected() -> Any:
    from transformers import CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(_clip_config())


def _t5(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": width, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    return T5EncoderModel(T5Config(**sizes, vocab_size=80, feed_forward_proj="gated-gelu"))


def _gemma() -> Any:
    from transformers import Gemma2Config, Gemma2Model

    sizes = {"hidden_size": TEXT, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return Gemma2Model(Gemma2Config(**sizes, num_key_value_heads=1, head_dim=6, vocab_size=80, pad_token_id=0))


def _qwen_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    sizes = {"hidden_size": TEXT, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 1], "rope_theta": 10000.0}
    text = sizes | {"num_key_value_heads": 1, "vocab_size": 80, "rope_parameters": rope, "rope_scaling": rope}
    vision = {"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 2, "out_hidden_size": TEXT}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text | ends, vision_config=vision))


_LETTERS = string.ascii_lowercase + string.digits + ".,:;'!?-<>|_"
"""What the tokenizers know: one token a letter."""


def _clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    pieces = ["<|startoftext|>", "<|endoftext|>", "<|pad|>"]
    pieces += [letter for letter in string.ascii_lowercase] + [f"{letter}</w>" for letter in string.ascii_lowercase]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=32)


def _t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", "▁", *_LETTERS]
    return T5Tokenizer(vocab=[(piece, -1.0) for piece in pieces], extra_ids=0, model_max_length=2048)


def _gemma_tokenizer() -> Any:
    from transformers import GemmaTokenizer

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *_LETTERS]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return GemmaTokenizer(vocab=vocabulary, merges=[], model_max_length=2048)


def _qwen_tokenizer() -> Any:
    from transformers import Qwen2Tokenizer

    pieces = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "Ġ", "Ċ", *_LETTERS]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return Qwen2Tokenizer(vocab=vocabulary, merges=[], model_max_length=2048)
