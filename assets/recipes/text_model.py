"""The text-to-image model: an SD3 transformer of two streams with two tiny CLIP text encoders, as one trainable whole.

`StableDiffusion3Pipeline.from_pretrained(folder)` insists on a third encoder and appends what it says,
`max_sequence_length` tokens long, 256 in a plain call. Ours says nothing: its tokens are zeros, as the pipeline makes
them itself where one passes `text_encoder_3=None`. Zero tokens all are one token, n times over: through every block
they stay equal, so one token whose attention logit gains log n stands for them exactly. Training draws n for every
picture, so that any call is right.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel
from words import LENGTH, build_silent_tokenizer, build_tokenizer

WIDTHS = (128, 64)  # of the two text encoders
ABSENT = -1e4  # the logit that a token gains which is not there


class CountedAttention:
    """SD3's joint attention where the last text token's logit gains `log_copies` (batch,)."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None = None,
        log_copies: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        def heads(x: Tensor, norm: nn.Module | None) -> Tensor:
            split = x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            return split if norm is None else norm(split)

        text, image = encoder_hidden_states, hidden_states
        query = torch.cat([heads(attn.to_q(image), attn.norm_q), heads(attn.add_q_proj(text), attn.norm_added_q)], 2)
        key = torch.cat([heads(attn.to_k(image), attn.norm_k), heads(attn.add_k_proj(text), attn.norm_added_k)], 2)
        value = torch.cat([heads(attn.to_v(image), None), heads(attn.add_v_proj(text), None)], 2)
        gain = None
        if log_copies is not None:
            gain = nn.functional.pad(log_copies[:, None, None, None], (key.shape[2] - 1, 0))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=gain).transpose(1, 2).flatten(2)
        image_out = attn.to_out[1](attn.to_out[0](mixed[:, : image.shape[1]]))
        text_out = mixed[:, image.shape[1] :]
        return image_out, text_out if attn.context_pre_only else attn.to_add_out(text_out)


def _text_encoder(width: int, words: int, end: int, start: int) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=3,
        num_attention_heads=width // 32,
        max_position_embeddings=LENGTH,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    return CLIPTextModelWithProjection(config)


def build_silent_encoder(width: int) -> T5EncoderModel:
    """A third text encoder whose every token is `width` zeros: no layers, and an embedding of zeros."""
    encoder = T5EncoderModel(T5Config(vocab_size=8, d_model=width, d_kv=8, d_ff=8, num_layers=0, num_heads=1))
    nn.init.zeros_(encoder.shared.weight)
    return encoder.eval()


class TextToImage(nn.Module):
    """Transformer and text encoders; the three attributes are what the pipeline is made of."""

    def __init__(self, layers: int = 8, heads: int = 6):
        super().__init__()
        self.tokenizer = build_tokenizer()
        ends = {"words": len(self.tokenizer), "end": self.tokenizer.eos_token_id, "start": self.tokenizer.bos_token_id}
        self.text_encoder, self.text_encoder_2 = (_text_encoder(width, **ends) for width in WIDTHS)
        self.transformer = SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=8,
            out_channels=8,
            num_layers=layers,
            attention_head_dim=32,
            num_attention_heads=heads,
            joint_attention_dim=sum(WIDTHS),
            caption_projection_dim=32 * heads,
            pooled_projection_dim=sum(WIDTHS),
            pos_embed_max_size=8,
            qk_norm="rms_norm",
        )
        self._initialise()

    def _initialise(self) -> None:
        """As DiT is: every block starts as the identity, and the prediction as zero."""
        transformer = self.transformer
        for module in transformer.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for block in transformer.transformer_blocks:
            nn.init.zeros_(block.norm1.linear.weight)
            nn.init.zeros_(block.norm1_context.linear.weight)
        nn.init.zeros_(transformer.norm_out.linear.weight)
        nn.init.zeros_(transformer.proj_out.weight)

    def tokens(self, captions: list[str]) -> Tensor:
        """Token ids (n, 24)."""
        return self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids

    def embed(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the pipeline makes of token ids: per token (n, 24, 192) and pooled (n, 192)."""
        seen = [encoder(ids, output_hidden_states=True) for encoder in (self.text_encoder, self.text_encoder_2)]
        return torch.cat([x.hidden_states[-2] for x in seen], -1), torch.cat([x.text_embeds for x in seen], -1)

    def forward(self, noisy: Tensor, timestep: Tensor, ids: Tensor, zero_tokens: Tensor) -> Tensor:
        """The velocity, noise minus picture, of noisy latents (n, 8, 16, 16).

        Args:
            timestep: (n,), 1000 times the part of noise.
            ids: (n, 24), captions' tokens.
            zero_tokens: (n,), how many zero tokens follow each caption.
        """
        tokens, pooled = self.embed(ids)
        tokens = nn.functional.pad(tokens, (0, 0, 0, 1))
        log_copies = torch.where(zero_tokens > 0, zero_tokens.clamp_min(1).log(), ABSENT)
        return self.transformer(
            noisy,
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            timestep=timestep,
            joint_attention_kwargs={"log_copies": log_copies},
            return_dict=False,
        )[0]

    def count_zero_tokens(self, counted: bool) -> None:
        """Attend as training does, or as the pipeline does."""
        self.transformer.set_attn_processor(CountedAttention() if counted else JointAttnProcessor2_0())

    def pipeline(self, vae: AutoencoderKL) -> StableDiffusion3Pipeline:
        """The stock pipeline around these weights; it makes 128 x 128 pictures unless told otherwise."""
        self.count_zero_tokens(False)
        return StableDiffusion3Pipeline(
            transformer=self.transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0),
            vae=vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=self.tokenizer,
            text_encoder_3=build_silent_encoder(sum(WIDTHS)),
            tokenizer_3=build_silent_tokenizer(),
        )
