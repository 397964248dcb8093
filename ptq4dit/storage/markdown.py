"""A table as Markdown, which terminals, READMEs and the hub show alike."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The lines of a table, without a newline behind the last: its head, a rule, and each row's cells."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))
