"""Re-parameterization: absorb balancing factors into a transformer's own weights (PTQ4DiT eqs. 13, 17-21).

What produces the input of a site is scaled by ``b``, the columns of the linears that read it by ``1 / b``. The result
is a plain float model of the same class with the same output, which loads into an unmodified diffusers transformer.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.model.families.absorber import (
    Absorber,
    InputFactor,
    Modulation,
    Rows,
    Split,
    absorbed_channels,
    absorbing_paths,
)
from ptq4dit.model.families.family import Site
from ptq4dit.model.families.plain import plain_linear, require_plain
from ptq4dit.model.families.registry import family_of
from ptq4dit.model.streamed import rewrite


@torch.no_grad()
def reparameterize(transformer: nn.Module, factors: Mapping[str, Float[Tensor, " channel"]]) -> nn.Module:
    """Multiply the inputs of sites by ``b_x`` and divide the columns behind by it, without changing the model's output.

    What scales the input is the site's absorber, which its family names (`ptq4dit.model.families`):

    - `Modulation` (after adaLN, eqs. 17-19): ``LN(z) (1 + gamma) + beta`` becomes ``LN(z) (b + b gamma) + b beta`` by
      scaling the gamma and beta rows of the modulation linear; its forward keeps adding 1, so ``b - 1`` is added to
      the bias of the gamma rows.
    - `Rows` (after ``softmax(QK) V``, a norm with a gain, or the linear half of a gated unit): the rows and bias of
      what makes the channels. Deviation: the paper absorbs the factor of the attention's output in the de-quantization
      after the product (eq. 20); the rows of ``to_v`` give the same function and a plain model, but V itself is seen
      scaled.
    - `Split`: each range of columns by its own absorber.

    All factors are folded at once and refer to the given model: a factor of ``proj`` scales rows of ``to_v`` and with
    them, slightly, the weight salience of ``qkv``; the factor of ``qkv`` does not take that into account.

    Args:
        transformer: a float diffusers transformer; left as it is.
        factors: site name -> ``b_x`` ``(d_in,)``, positive and finite; sites that are left out keep their weights. A
            factor of one of several tied sites is that of all. Channels that nothing absorbs have 1.

    Returns:
        A new float transformer of the same class. Of a streamed one, what is on disk stays as it is.

    Raises:
        ValueError: for an unknown site, a factor that cannot be absorbed, of wrong shape or sign, or other than that
            of a tied site; for weights that cannot be rewritten alone. Nothing has been changed then.
    """
    sites = family_of(transformer).sites(transformer)
    for name, factor in factors.items():
        _require_factor(transformer, name, factor, sites)
    complete = _with_tied(factors, sites)
    _require_rewritable(transformer, [sites[name] for name in complete])
    result = copy.deepcopy(transformer)
    scaled: set[str] = set()
    for name, site in sites.items():
        if name not in complete:
            continue
        factor, source = complete[name].double(), site.tied_to or name
        if source not in scaled:
            _scale_input(result, sites[source].absorber, factor)
            scaled.add(source)
        for path in site.paths:
            _divide_columns(plain_linear(result, path), factor)
    return result


def _scale_input(transformer: nn.Module, absorber: Absorber, factor: Tensor) -> None:
    if isinstance(absorber, Split):
        for (start, stop), part in absorber.parts:
            _scale_input(transformer, part, factor[start:stop])
    elif isinstance(absorber, Rows):
        rows = slice(None) if absorber.rows is None else slice(*absorber.rows)
        once = factor.unflatten(0, (-1, absorber.repeats, absorber.width))[:, 0].flatten()
        for path in absorber.paths:
            _scale_rows(transformer.get_submodule(path), rows, once if absorber.repeats > 1 else factor)
    elif isinstance(absorber, Modulation):
        linear = transformer.get_submodule(absorber.linear)
        if absorber.shift is not None:
            _scale_rows(linear, slice(*absorber.shift), factor)
        _scale_rows(linear, slice(*absorber.scale), factor, offset=factor - 1 if absorber.one else None)


def _scale_rows(module: nn.Module, rows: slice, factor: Tensor, offset: Tensor | None = None) -> None:
    rewrite(module, "weight", partial(_scaled, rows=rows, factor=factor))
    if module._parameters.get("bias") is not None:
        rewrite(module, "bias", partial(_scaled, rows=rows, factor=factor, offset=offset))


def _scaled(values: Tensor, *, rows: slice, factor: Tensor, offset: Tensor | None = None) -> Tensor:
    scaled = values[rows].double() * factor.to(values.device).reshape(-1, *[1] * (values.ndim - 1))
    result = values.clone()
    result[rows] = (scaled if offset is None else scaled + offset.to(values.device)).to(values.dtype)
    return result


def _divide_columns(linear: nn.Linear | nn.Conv2d, factor: Tensor) -> None:
    by_column = factor.reshape(-1, *[1] * (linear.weight.ndim - 2))
    rewrite(linear, "weight", lambda weight: (weight.double() / by_column.to(weight.device)).to(weight.dtype))


def _require_rewritable(transformer: nn.Module, sites: Sequence[Site]) -> None:
    for path in (path for site in sites for path in site.paths):
        plain_linear(transformer, path)
    require_plain(transformer, (path for site in sites for path in (*site.paths, *absorbing_paths(site.absorber))))


def _with_tied(factors: Mapping[str, Tensor], sites: Mapping[str, Site]) -> dict[str, Tensor]:
    """The factors of all sites that one is given for, those of tied sites included."""
    sources: dict[str, str] = {}
    for name in factors:
        source = sites[name].tied_to or name
        other = sources.setdefault(source, name)
        if not torch.equal(factors[name], factors[other].to(factors[name])):
            raise ValueError(
                f"Expected one factor for {other!r} and {name!r}, whose inputs are made by the same weights, got two "
                "that differ. Balance the largest salience over both, or give one of them only."
            )
    tied = {name: site.tied_to or name for name, site in sites.items()}
    return {name: factors[sources[source]] for name, source in tied.items() if source in sources}


def _require_factor(transformer: nn.Module, name: str, factor: Tensor, sites: Mapping[str, Site]) -> None:
    if name not in sites:
        raise ValueError(f"Unknown layer {name!r}. Expected one of {next(iter(sites))!r} ... {list(sites)[-1]!r}.")
    absorber = sites[name].absorber
    if isinstance(absorber, InputFactor):
        raise ValueError(
            f"Expected factors of layers with something in front that absorbs them, got {name!r}: {absorber.why}. "
            "Leave it out, or quantize with balance_fc2=True."
        )
    channels = plain_linear(transformer, sites[name].paths[0]).weight.shape[1]
    if factor.shape != (channels,):
        raise ValueError(f"Expected a factor of shape ({channels},) for {name!r}, got {tuple(factor.shape)}.")
    if not (torch.isfinite(factor) & (factor > 0)).all():
        raise ValueError(f"Expected positive, finite factors for {name!r}, got {float(factor.min())} as the smallest.")
    _require_absorbed(transformer, name, absorber, factor)


def _require_absorbed(transformer: nn.Module, name: str, absorber: Absorber, factor: Tensor) -> None:
    if (factor[~absorbed_channels(absorber, factor.shape[0]).to(factor.device)] != 1).any():
        raise ValueError(
            f"Expected ones for the channels of {name!r} that nothing in front absorbs, got other factors. Fold the "
            "first part of split_factor(absorber, factor) and leave the second to the rounding."
        )
    if isinstance(absorber, Rows) and absorber.repeats > 1:
        heads = factor.unflatten(0, (-1, absorber.repeats, absorber.width))
        if (heads != heads[:, :1]).any():
            raise ValueError(
                f"Expected equal factors for the {absorber.repeats} heads of {name!r} that read the same values, got "
                "factors that differ. Balance shared_maximum(absorber, salience)."
            )
    if isinstance(absorber, Modulation) and absorber.one and plain_linear(transformer, absorber.linear).bias is None:
        raise ValueError(
            f"Expected a bias in {absorber.linear!r} to hold the factor of {name!r}, got none. Leave it out."
        )
