"""OpenVINO in float and with NNCF's own quantization: the stock model, traced, compiled for every shape it meets."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptq4dit.speed.contestants.contestant import Call, Contestant, Loaded
from ptq4dit.speed.contestants.torch_float import Plain
from ptq4dit.speed.subject import Inputs, Subject

TRACED = "diffusers' own, traced"
CALIBRATION_BATCHES = 8
NAMES = ("latents", "timestep", "class_labels")


def arrays(inputs: Inputs) -> dict[str, np.ndarray]:
    """Inputs under the names of an exported model."""
    return {
        "latents": inputs.latents.numpy(),
        "timestep": inputs.timesteps.numpy(),
        "class_labels": inputs.labels.numpy(),
    }


def calibration_batches(subject: Subject) -> list[dict[str, np.ndarray]]:
    """What other tools calibrate with: noise at timesteps from the first to the last."""
    batches = []
    for index in range(CALIBRATION_BATCHES):
        inputs = subject.inputs(2, seed=1 + index)
        timestep = 20 + 960 * index // (CALIBRATION_BATCHES - 1)
        batches.append(
            arrays(Inputs(latents=inputs.latents, timesteps=torch.full((2,), timestep), labels=inputs.labels))
        )
    return batches


@torch.no_grad()
def calibrate_on(module: Callable[..., Any], subject: Subject) -> None:
    """Call a torch module on `calibration_batches`, for tools that watch it meanwhile."""
    for batch in calibration_batches(subject):
        module(*(torch.from_numpy(value) for value in batch.values()))


def traced(subject: Subject) -> Any:
    """The float model as an OpenVINO graph with a free batch size."""
    import openvino

    inputs = subject.inputs(2)
    example = (inputs.latents, inputs.timesteps, inputs.labels)
    shapes = [openvino.PartialShape([-1, *inputs.latents.shape[1:]]), *[openvino.PartialShape([-1])] * 2]
    with torch.no_grad():
        graph = openvino.convert_model(Plain(subject.transformer()), example_input=example, input=shapes)
    for port, name in zip(graph.inputs, NAMES, strict=True):
        port.get_tensor().set_names({name})
    return graph


def _trace(subject: Subject, folder: Path) -> None:
    import openvino

    openvino.save_model(traced(subject), folder / "model.xml", compress_to_fp16=False)


def _quantize(subject: Subject, folder: Path) -> None:
    import nncf
    import openvino

    data = nncf.Dataset(calibration_batches(subject))
    graph = nncf.quantize(traced(subject), data, subset_size=CALIBRATION_BATCHES)
    openvino.save_model(graph, folder / "model.xml", compress_to_fp16=False)


def _load(folder: Path, threads: int, precision: str) -> Loaded:
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}

    @cache
    def compiled(rows: int) -> Any:
        graph = core.read_model(folder / "model.xml")
        graph.reshape({port.any_name: [rows, *list(port.partial_shape)[1:]] for port in graph.inputs})
        return core.compile_model(graph, "CPU", options).create_infer_request()

    def bind(inputs: Inputs) -> Call:
        request, given = compiled(len(inputs.labels)), arrays(inputs)

        def call() -> Tensor:
            return torch.from_numpy(request.infer(given, share_inputs=True)[0])

        return call

    return Loaded(bind=bind, note=f"rest in {precision}")


def _contestant(key: str, name: str, label: str, precision: str, *, quantized: bool) -> Contestant:
    return Contestant(
        key=key,
        name=name,
        label=label,
        execution="integer" if quantized else "float",
        forward=TRACED,
        built="nncf" if quantized else "openvino",
        imports=("openvino", "nncf") if quantized else ("openvino",),
        build=_quantize if quantized else _trace,
        load=lambda subject, folder, threads: _load(folder, threads, precision),
    )


FLOAT = _contestant("openvino-fp32", "OpenVINO fp32", "FP32", "f32", quantized=False)
HALF = _contestant("openvino-bf16", "OpenVINO bf16", "BF16", "bf16", quantized=False)
NNCF = _contestant("nncf", "OpenVINO + NNCF int8, rest fp32", "W8A8", "f32", quantized=True)
NNCF_HALF = _contestant("nncf-bf16", "OpenVINO + NNCF int8, rest bf16", "W8A8", "bf16", quantized=True)
