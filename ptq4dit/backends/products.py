"""Whether a compiled graph multiplies integers where it should: read back from OpenVINO's own account of it."""

from collections.abc import Iterable

import openvino

INTEGERS = ("u8", "i8", "u4", "i4")
"""Of an input that the runtime rounds itself it tells the weight's type, which says nothing of the product; that is
proven otherwise (`token_route`)."""
_SHOWN = ("layerType", "originalLayersNames", "runtimePrecision")
_PRODUCTS = ("FullyConnected", "MatMul")


def linear_precisions(compiled: openvino.CompiledModel) -> dict[str, str]:
    """Layer name -> the type in which the compiled graph multiplies, such as ``"u8"`` or ``"f32"``.

    Names are those of `IntegerLinear` in the graph, and of whatever else is a product in it. Where several products
    make one layer, a float one among them decides.
    """
    precisions: dict[str, str] = {}
    for node in compiled.get_runtime_model().get_ops():
        info = {key: value.astype(str) for key, value in node.get_rt_info().items() if key in _SHOWN}
        if info.get("layerType") not in _PRODUCTS:
            continue
        for layer in {name.split("/")[0] for name in info.get("originalLayersNames", "").split(",")}:
            if precisions.get(layer, "u8") in INTEGERS:
                precisions[layer] = info["runtimePrecision"]
    return precisions


def require_integer_products(precisions: dict[str, str], wanted: Iterable[str]) -> None:
    """Refuse a compiled graph in which a layer does not multiply 8-bit integers.

    Args:
        precisions: what `linear_precisions` found.
        wanted: layers that must.

    Raises:
        ValueError: naming the first such layer.
    """
    for name in wanted:
        if precisions.get(name) not in INTEGERS:
            version = openvino.__version__.split("-")[0]
            raise ValueError(
                f"Expected {name!r} to multiply 8-bit integers, got {precisions.get(name, 'no product')}: OpenVINO "
                f"{version} has no such kernel for this CPU. It needs AVX2 or VNNI; choose "
                'backend="simulated" here.'
            )
