"""How cost grows: exponents, parts, crossing and seconds of an image, from points whose answers are known."""

import cost_growth as growth
import cost_laws as laws
import pytest


def points():
    """Products linear in everything and quadratic in width; attention quadratic in tokens, linear in width."""
    wide = [{"blocks": b, "width": h * growth.HEAD, "tokens": (s // 2) ** 2} for b, h, s in growth.POINTS]
    sizes = [size | {"rows": rows} for size in wide for rows in (growth.ALL_ROWS if size == wide[0] else (1, 2))]
    found = []
    for size in sizes:
        each = size["blocks"] * size["rows"] * size["tokens"] * size["width"]
        products, attention = 6 * each * size["width"] / 1e6, each * size["tokens"] / 1e6
        own = {"products": products, "attention": attention, "rest": 5.0, "once": 100.0 * size["blocks"]}
        own |= {"ours": products + attention, "float": 3 * (products + attention)}
        found.append(size | own | {"ours_mb": 10.0 + size["blocks"], "float_mb": 40.0 * size["blocks"]})
    return found


def test_sweeps_hold_all_else_fixed():
    swept = {size: [one[size] for one in laws.sweep(points(), size)] for size in laws.SIZES}
    assert swept == {
        "tokens": [256, 576, 1024, 2304, 4096],
        "rows": [1, 2, 4, 8],
        "blocks": [1, 2, 4],
        "width": [288, 576, 1152, 1728],
    }


def test_exponents_and_where_attention_overtakes_are_found_again():
    found = laws.fits(points())
    expected = {"tokens": (1, 2), "rows": (1, 1), "blocks": (1, 1), "width": (2, 1)}
    for size, (products, attention) in expected.items():
        assert found["exponents"][size]["products"] == products, size
        assert found["exponents"][size]["attention"] == attention, size
        assert found["exponents"][size]["rest"] == 0
    assert found["attention_overtakes_at_tokens"] == found["attention_overtakes_by_counting"] == 6 * 1152
    assert found["four_blocks_over_line"] == {"ours": 1.0, "float": 1.0}


def test_seconds_of_an_image_by_hand():
    rows = laws.images(points(), {"256": 2.0, "512": 8.0})
    assert [(row["pixels"], row["steps"]) for row in rows] == [(256, 50), (256, 20), (512, 50), (512, 20)]
    each = 2 * 256 * 1152 * (6 * 1152 + 256) / 1e9
    assert rows[0]["float_s"] == pytest.approx(50 * 28 * 3 * each + 2, abs=0.06)
    assert rows[1]["ours_s"] == pytest.approx(20 * 28 * each + 28 * 0.1 * 20 / 50 + 2, abs=0.06)
    assert rows[3]["ours_s"] > 3 * rows[1]["ours_s"]


def test_parts_are_products_attention_and_all_else():
    kinds = {"product qkv": 3.0, "product fc1": 2.0, "other products": 1.0, "attention": 4.0, "norms": 0.5}
    profile = {"call_ms": 12.0, "kinds": {kind: {"ms": ms, "nodes": 1} for kind, ms in kinds.items()}}
    assert growth.parts(profile, 21.0) == {"products": 12.0, "attention": 8.0, "rest": 1.0}


def test_the_tables_and_the_figure_show_every_sweep():
    content = {"points": points(), "fits": laws.fits(points())}
    content["images"] = laws.images(points(), {"256": 2.0, "512": 8.0})
    made = growth.tables(content)
    assert [line.split(" | ")[0] for line in made["growth"].splitlines()[2:]] == [f"| {size}" for size in laws.SIZES]
    assert "256, 4096" in made["growth"] and len(made["image cost"].splitlines()) == 6
    panels = growth.figure(content).axes
    assert len(panels) == 2 * len(laws.SIZES)
    assert list(panels[0].lines[1].get_ydata()) == [one["attention"] for one in laws.sweep(points(), "tokens")]
