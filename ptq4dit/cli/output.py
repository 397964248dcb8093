"""Where a command writes its result: a file that was named, or where the explorer reads it."""

import argparse
from pathlib import Path

from ptq4dit.storage.home import RESULTS, home
from ptq4dit.storage.whole_file import require_file, require_place


def add_out(command: argparse.ArgumentParser, text: str) -> None:
    """The options ``--out`` and ``--explorer``, of which one may be given."""
    one = command.add_mutually_exclusive_group()
    one.add_argument("--out", default=None, help=text)
    told = "keep the result with the model, or in the cache where its folder cannot be written: the explorer shows it"
    one.add_argument("--explorer", action="store_true", help=told)


def out_file(options: argparse.Namespace, source: str, name: str) -> Path | None:
    """The file to write, which can be; None where none was asked for.

    Args:
        options: those of `add_out`.
        source: the model that the result is of.
        name: the file's, among the results that the explorer reads.

    Raises:
        ValueError: if it cannot be written.
    """
    file = home(source) / RESULTS / name if options.explorer else Path(options.out) if options.out else None
    if options.explorer and file is not None:
        require_place(file.parent, name)
    if file is not None:
        require_file(file)
    return file
