"""All contestants, in the order of the tables."""

from ptq4dit.speed.contestants import integer, onnxruntime, openvino_float, quanto, sdnq, torch_float, torchao
from ptq4dit.speed.contestants.contestant import Contestant

BASELINE = torch_float.BASELINE
ALL: dict[str, Contestant] = {
    contestant.key: contestant
    for contestant in (
        *(BASELINE, torch_float.COMPILED, torch_float.HALF),
        *(openvino_float.FLOAT, openvino_float.HALF),
        *integer.ALL_PRECISIONS,
        *(openvino_float.NNCF, openvino_float.NNCF_HALF),
        *(torchao.DYNAMIC, torchao.STATIC, onnxruntime.STATIC, onnxruntime.DYNAMIC),
        *(quanto.INT8, sdnq.INT8),
    )
}
"""Key -> contestant; the baseline comes first."""


def chosen(only: tuple[str, ...]) -> list[Contestant]:
    """The baseline and the named ones, or all.

    Raises:
        ValueError: for an unknown name.
    """
    if unknown := sorted(set(only) - ALL.keys()):
        raise ValueError(f"Expected contestants among {list(ALL)}, got {unknown}.")
    return [contestant for contestant in ALL.values() if not only or contestant.key in (*only, BASELINE.key)]
