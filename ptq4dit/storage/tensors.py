"""One safetensors file with a named format and text beside the tensors: written whole or not at all, read strictly."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ptq4dit.storage.whole_file import whole_file


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str], format_name: str
) -> None:
    """Write tensors and text under a temporary name, then rename; the same ones give the same bytes.

    Args:
        path: file to write; its folder exists.
        tensors: name -> tensor.
        metadata: name -> text.
        format_name: what `read_tensors` will ask for.

    Raises:
        ValueError: if the disk is full, or something else than a file is there.
    """
    with whole_file(Path(path)) as new:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, new, {"format": format_name, **metadata})
        sort_text(new)


def sort_text(path: str | os.PathLike[str]) -> None:
    """Sort the text in a safetensors file's header by its names: the library writes it in another order each time."""
    with Path(path).open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        if len(written) == size:
            file.seek(8)
            file.write(written)


def read_tensors(
    path: str | os.PathLike[str], format_name: str | tuple[str, ...], what: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and text that `write_tensors` wrote.

    Args:
        path: file to read.
        format_name: the format that it must have, or several of which it may have any, the newest first.
        what: what the file is, for messages, such as ``"calibration"``.

    Raises:
        ValueError: if there is no such file, or it is damaged or of another format.
    """
    file_path = Path(path)
    if not file_path.is_file():
        raise ValueError(f"Expected a {what} file, got {str(file_path)!r}, which does not exist. Make one first.")
    try:
        with safe_open(file_path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"Expected a {what} file, got {str(file_path)!r}, which is damaged: {error}") from error
    known = (format_name,) if isinstance(format_name, str) else format_name
    if metadata.get("format") not in known:
        raise ValueError(
            f"Expected format {known[0]!r} in {str(file_path)!r}, got {metadata.get('format')!r}. Make it again."
        )
    return tensors, metadata
