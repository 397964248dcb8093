"""ONNX Runtime: the stock model, exported, quantized by its own static quantization (QDQ) or by its dynamic one."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptq4dit.speed.contestants.contestant import Call, Contestant, Loaded
from ptq4dit.speed.contestants.openvino_float import NAMES, TRACED, arrays, calibration_batches
from ptq4dit.speed.contestants.torch_float import Plain
from ptq4dit.speed.subject import Inputs, Subject

_FLOAT, _MODEL = "float/model.onnx", "model.onnx"


def _export(subject: Subject, folder: Path) -> Path:
    inputs = subject.inputs(2)
    path = folder / _FLOAT
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Plain(subject.transformer()),
            (inputs.latents, inputs.timesteps, inputs.labels),
            str(path),
            dynamo=False,
            opset_version=18,
            input_names=list(NAMES),
            output_names=["sample"],
            dynamic_axes={name: {0: "row"} for name in (*NAMES, "sample")},
        )
    return path


def _build_static(subject: Subject, folder: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    batches = iter(calibration_batches(subject))

    class Reader(CalibrationDataReader):
        def get_next(self) -> Any:
            return next(batches, None)

    options = {"quant_format": QuantFormat.QDQ, "per_channel": True, "op_types_to_quantize": ["MatMul", "Gemm"]}
    _run(quantize_static, subject, folder, calibration_data_reader=Reader(), **options)


def _build_dynamic(subject: Subject, folder: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    _run(quantize_dynamic, subject, folder, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"])


def _run(tool: Any, subject: Subject, folder: Path, **options: Any) -> None:
    large = subject.about["parameters"] * 4 > 2**31
    (folder / "model").mkdir()
    logging.getLogger().setLevel(logging.ERROR)
    tool(str(_export(subject, folder)), str(folder / "model" / _MODEL), use_external_data_format=large, **options)


def _load(subject: Subject, folder: Path, threads: int) -> Loaded:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # its idle threads would slow the next one
    path = str(folder / "model" / _MODEL)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def bind(inputs: Inputs) -> Call:
        given = arrays(inputs)

        def call() -> Tensor:
            return torch.from_numpy(session.run(None, given)[0])

        return call

    return Loaded(bind=bind)


STATIC, DYNAMIC = (
    Contestant(
        key=f"onnxruntime-{kind}",
        name=f"ONNX Runtime int8 {kind}",
        label="W8A8",
        execution="integer",
        forward=TRACED,
        built=f"onnxruntime-{kind}",
        imports=("onnx", "onnxruntime"),
        build=build,
        load=_load,
        deployed="model",
    )
    for kind, build in (("static", _build_static), ("dynamic", _build_dynamic))
)
