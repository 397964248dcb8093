"""The words, in Markdown, one file a place."""

from pathlib import Path


def words(name: str) -> str:
    """The text of `app/content/<name>.md`."""
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8")
