"""Draw the social thumbnail, `assets/thumbnail.png`, from the demo's own samples.

python assets/recipes/thumbnail.py
"""

from __future__ import annotations

from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from provenance import ROOT

SIZE = (1280, 640)
TILE, COLUMNS, ROWS = 160, 8, 4
INK, SHADE = (255, 255, 255), (12, 18, 32)


def font(size: int, weight: str = "regular") -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont(f"DejaVu Sans:{weight}"), size)


def tiles(grid: Image.Image) -> Image.Image:
    """Samples as a wall: a different class in each neighbouring tile."""
    side = grid.width // 10
    wall = Image.new("RGB", SIZE)
    for row in range(ROWS):
        for column in range(COLUMNS):
            kind, sample = (column + 3 * row) % 10, (column * 3 + row) % 10
            box = (sample * side, kind * side, (sample + 1) * side, (kind + 1) * side)
            tile = grid.crop(box).resize((TILE, TILE), Image.Resampling.LANCZOS)
            wall.paste(tile, (column * TILE, row * TILE))
    return wall


def main() -> None:
    with Image.open(ROOT / "assets" / "demo" / "samples.webp") as grid:
        wall = tiles(grid.convert("RGB"))
    veil = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    draw = ImageDraw.Draw(veil)
    draw.rectangle((0, 2 * TILE - 110, SIZE[0], 2 * TILE + 110), fill=(*SHADE, 225))
    draw.text((640, 290), "PTQ4DiT Explorer", font=font(76, "bold"), fill=INK, anchor="mm")
    draw.text((640, 368), "see why quantizing a diffusion transformer works", font=font(32), fill=INK, anchor="mm")
    out = Path(ROOT / "assets" / "thumbnail.png")
    Image.alpha_composite(wall.convert("RGBA"), veil).convert("RGB").quantize(256).save(out, optimize=True)


if __name__ == "__main__":
    main()
