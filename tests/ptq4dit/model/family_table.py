"""Print the families: how many sites, what share of their channels is absorbed for free, how exact folding is.

python -m tests.ptq4dit.model.family_table
"""

import sys
from collections.abc import Iterator

from ptq4dit.model.families.absorber import absorbed_channels
from ptq4dit.model.families.plain import shape_of
from ptq4dit.model.families.registry import family_of
from ptq4dit.paper.reparam import reparameterize
from tests.ptq4dit.model.tiny_models import GENERIC, TINY, output_of, random_factors, relative_difference, tiny


def rows() -> Iterator[str]:
    """A line of a Markdown table for every tiny model: random factors on every absorbing site, float64."""
    yield "| model | family | sites | channels absorbed | largest relative difference |"
    yield "|---|---|--:|--:|--:|"
    for name in TINY:
        transformer, call = tiny(name)
        family = family_of(transformer)
        sites = family.sites(transformer, call)
        widths = {key: shape_of(transformer, site.paths[0])[1] for key, site in sites.items()}
        free = sum(int(absorbed_channels(site.absorber, widths[key]).sum()) for key, site in sites.items())
        difference = "nothing is folded"
        if name not in GENERIC:
            folded = reparameterize(transformer, random_factors(transformer))
            difference = f"{relative_difference(output_of(transformer, call), output_of(folded, call)):.1e}"
        yield f"| {name} | {family.name} | {len(sites)} | {free / sum(widths.values()):.0%} | {difference} |"


if __name__ == "__main__":
    sys.stdout.writelines(f"{row}\n" for row in rows())
