"""SDNQ's int8: dynamic per-token activations, its own products; saved and loaded by diffusers as its users do it."""

from pathlib import Path
from typing import Any

import torch

from ptq4dit.speed.contestants.contestant import Contestant, Loaded
from ptq4dit.speed.contestants.torch_float import STOCK, Plain, calls
from ptq4dit.speed.subject import Subject

SETTINGS: dict[str, Any] = {
    "weights_dtype": "int8",
    "use_quantized_matmul": True,
    "modules_to_not_convert": ["norm1", "proj_out_1", "proj_out_2"],
}
"""Fastest on CPUs: with few rows it turns weights back into floats at every call, so what sees few stays in float."""


def _build(subject: Subject, folder: Path) -> None:
    from sdnq import sdnq_post_load_quant

    sdnq_post_load_quant(subject.transformer(), **SETTINGS).save_pretrained(folder, max_shard_size="50GB")


def _load(subject: Subject, folder: Path, threads: int) -> Loaded:
    import sdnq  # noqa: F401  # its import teaches diffusers to read its folders

    torch.set_num_threads(threads)
    return calls(Plain(subject.transformer_of(folder, torch.float32)))


INT8 = Contestant(
    key="sdnq",
    name="SDNQ int8 dynamic",
    label="W8A8",
    execution="integer",
    forward=STOCK,
    built="sdnq",
    imports=("sdnq",),
    build=_build,
    load=_load,
)
