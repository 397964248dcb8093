"""What a measurement of speed is asked to do."""

from dataclasses import dataclass

XL = "xl"
"""Stands for a DiT of DiT-XL/2's size with seeded random weights."""


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """Which model, how much of it, and how often.

    Attributes:
        source: a DiTPipeline folder, a hub id, a ``.pt`` file, or ``"xl"``.
        blocks: keep the first blocks only; None for all.
        heads: of ``"xl"``, 72 wide each; None for its 16.
        side: of the latents of ``"xl"``, two to a token; None for its 32, which are pictures of 256 pixels.
        batches: rows of one forward pass; with guidance, two of them are one image.
        rounds: timed calls of each contestant and batch.
        only: keys of the contestants to measure, besides the baseline; empty for all.
        steps: sampling steps of the image that ``ms_per_image`` is about.
        guidance_scale: above 1, an image takes two rows.
        threads: CPU threads of every runtime.
        seed: of random weights and inputs.
        profile: also where a forward pass's time goes, for those whose runtime tells.
        images: draw one image that often with each contestant that a sampler can run, in turn, and time its parts.
        pictures: so many pictures drawn by each contestant from the same noise, for their distance to the baseline's.
        keep: folder for the model and whatever is built from it, taken from there next time; None for a temporary one.
        processor_time: seconds of the processor, all threads together, in place of the clock's: with one thread they
            say the same on a machine that others use.
        together: keep all contestants loaded and measure them in turn; False: one at a time, in turn with the
            baseline; None: together when the float weights are under 500 MB.
    """

    source: str
    blocks: int | None = None
    heads: int | None = None
    side: int | None = None
    batches: tuple[int, ...] = (2, 16)
    rounds: int = 15
    only: tuple[str, ...] = ()
    steps: int = 25
    guidance_scale: float = 4.0
    threads: int = 2
    seed: int = 0
    profile: bool = False
    images: int = 0
    pictures: int = 0
    keep: str | None = None
    processor_time: bool = False
    together: bool | None = None

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected {name} of at least 1, got {getattr(self, name)}.")
        for name in ("images", "pictures"):
            if getattr(self, name) < 0:
                raise ValueError(f"Expected {name} of at least 0, got {getattr(self, name)}.")
        if self.blocks is not None and self.blocks < 1:
            raise ValueError(f"Expected at least one block, got {self.blocks}.")
        if (self.heads, self.side) != (None, None) and self.source != XL:
            raise ValueError(f"Expected heads and side with {XL!r} only, got them with {self.source!r}.")
        if (self.heads or 1) < 1 or (self.side or 2) < 2 or (self.side or 2) % 2:
            raise ValueError(f"Expected heads of at least 1 and an even side, got {self.heads} and {self.side}.")
        if not self.batches or min(self.batches) < 1:
            raise ValueError(f"Expected batches of at least one row, got {list(self.batches)}.")

    @property
    def rows_per_image(self) -> int:
        """Rows of a forward pass that one image takes."""
        return 2 if self.guidance_scale > 1 else 1
