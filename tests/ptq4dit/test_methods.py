"""Each method has the property that it is known for."""

import dataclasses
import math

import pytest
import torch
from scipy.stats import spearmanr

from ptq4dit.backends.dispatch import with_backend
from ptq4dit.calibration.recorder import _per_sample_sums
from ptq4dit.calibration.run import calibrate
from ptq4dit.calibration.trajectories import collect
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.methods import method_names
from ptq4dit.config.quantization import LayerConfig, QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.methods.ours import candidates, middles, searched_factor
from ptq4dit.methods.ptq4dm import drawn_timesteps
from ptq4dit.methods.qdit import searched_groups
from ptq4dit.methods.registry import METHODS, Job, quantize
from ptq4dit.methods.repq import channel_grids
from ptq4dit.methods.shifting import shift_inputs, shifted
from ptq4dit.methods.smoothquant import smoothed, smoothing_factors
from ptq4dit.model.layers import balanced_layers, get_layer
from ptq4dit.paper.csb import balance_factors
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.quantized.balance import layer_factor
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.sampling.denoise import generate

CALIBRATION = CalibrationConfig(timesteps=4, samples_per_timestep=4, steps=6, rows_per_timestep=16)
SHORT = ReconstructionConfig(steps=3, images=4, timesteps=3, held_out=0.25, batch_size=4)


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CALIBRATION)


def linears(model):
    return [m for m in model.transformer.modules() if isinstance(m, QuantizedLinear)]


def output(model, timestep=400):
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5), dtype=model.dtype)
    return model.transformer(x, timestep=torch.full((2,), timestep), class_labels=torch.tensor([0, 3])).sample.detach()


def options(name):
    return {"rank": 4} if name == "svdquant" else {"budget_size": 8} if name == "qdit" else {}


@pytest.mark.parametrize("name", method_names())
def test_every_method_makes_finite_pictures_and_says_who_made_it(dit, stats, name):
    config = QuantConfig(method=name, weight_bits=4, options=options(name))
    if METHODS[name].prepare(config).reconstruction is not None:
        config = dataclasses.replace(config, reconstruction=SHORT)
    model = quantize(dit, stats, config)
    assert torch.isfinite(generate(model, [1], steps=2)).all()
    assert model.transformer.ptq4dit_record.config.method == name
    assert METHODS[name].citation and METHODS[name].summary and METHODS[name].inference
    assert all(linear.config.weight_bits == 4 and linear.config.activation_bits == 8 for linear in linears(model))


@pytest.mark.parametrize("name", [n for n in method_names() if n not in ("qdiffusion", "ptqd", "gptq")])
def test_without_rounding_every_method_leaves_the_function(make_dit, name):
    """At 16 bits what is left of a method is its re-parameterization, which is exact."""
    dit = make_dit(dtype=torch.float64)
    stats = calibrate(dit, CALIBRATION)
    config = QuantConfig(method=name, weight_bits=16, activation_bits=16, options=options(name))
    assert (output(quantize(dit, stats, config)) - output(dit)).abs().max() < 1e-10


def test_smoothquant_with_half_is_csb_with_the_largest_salience(dit, stats):
    names = smoothed(dit.transformer, balanced_layers(dit.transformer))
    factors = smoothing_factors(stats, names, 0.5)
    assert {name.rsplit(".", 1)[-1] for name in factors} == {"qkv", "fc1"}
    for name, factor in factors.items():
        b_x, _ = balance_factors(stats.activation_salience[name].amax(0), stats.weight_salience[name])
        torch.testing.assert_close(factor, b_x)
    flat = smoothing_factors(stats, names, 1.0)["blocks.0.fc1"] * stats.activation_salience["blocks.0.fc1"].amax(0)
    torch.testing.assert_close(flat, torch.ones_like(flat))
    with pytest.raises(ValueError, match="alpha in"):
        smoothing_factors(stats, names, 1.5)


def test_repq_gives_every_channel_the_same_grid(make_dit):
    """Exact in float64; afterwards every channel's range starts and ends where the tensor's does, up to one step."""
    dit = make_dit(dtype=torch.float64)
    stats = calibrate(dit, CALIBRATION)
    names = [n for n in stats.layers if n.endswith((".qkv", ".fc1"))]
    grids = {name: channel_grids(stats, name) for name in names}
    shifts = {name: shift for name, (_, shift) in grids.items()}
    moved = shift_inputs(dit.transformer, shifts)
    folded = reparameterize(moved, {name: factor for name, (factor, _) in grids.items()})
    assert (output(dit.with_transformer(folded)) - output(dit)).abs().max() < 1e-10
    seen = shifted(stats, shifts)
    for name, (factor, _) in grids.items():
        low = (seen.activation_min[name] * factor).amin(0).clamp(max=0)
        high = (seen.activation_max[name] * factor).amax(0).clamp(min=0)
        before = (stats.activation_max[name].amax(0) - stats.activation_min[name].amin(0)).clamp(min=1e-9)
        assert (high - low).max() / (high - low).min() < 1.5 < before.max() / before.min()


def test_ptq4dm_prefers_its_center():
    timesteps = torch.arange(980, -20, -20)
    drawn = drawn_timesteps(timesteps, 0.3, 0.2, seed=0)
    assert drawn == sorted(set(drawn)) and len(drawn) == 15
    assert timesteps[drawn].float().mean() < timesteps.float().mean()


def test_qdit_spends_its_budget_where_it_helps(dit, stats):
    job = Job(dit=dit, stats=stats, config=QuantConfig(method="qdit", csb=False, ssc=False, weight_bits=4))
    layers = balanced_layers(dit.transformer)
    assert set(searched_groups(job, 64).values()) == {16, 64}, "16 channels have no smaller candidate"
    sizes = searched_groups(job, 32)
    groups = {name: layer.in_features // sizes[name] for name, layer in layers.items()}
    assert set(groups.values()) == {1, 2}
    assert all(name.endswith("fc2") for name, count in groups.items() if count == 2)


def test_hadamard_flattens_a_salient_channel(dit, stats):
    linear = linears(quantize(dit, stats, QuantConfig(method="hadamard")))[3]
    rows = stats.samples["blocks.0.proj"].float().flatten(0, 1)
    rows[:, 3] *= 20
    before, after = (x.abs().amax(0) for x in (rows, linear.rotation.apply(rows)))
    assert after.max() / after.mean() < 0.3 * before.max() / before.mean()


def test_svdquant_leaves_less_to_round(dit, stats):
    smooth, svd = (
        quantize(dit, stats, QuantConfig(method=m, weight_bits=4, options={"rank": 4} if m == "svdquant" else {}))
        for m in ("smoothquant", "svdquant")
    )
    for plain, branched in zip(linears(smooth), linears(svd), strict=True):
        assert torch.linalg.matrix_rank(branched.low_rank_up @ branched.low_rank_down) == 4
        assert branched.weight.square().sum() < plain.weight.square().sum()


def test_dynamic_needs_no_static_range(dit, stats):
    broken = dataclasses.replace(stats, activation_max={n: t * 1000 for n, t in stats.activation_max.items()})
    config = QuantConfig(method="dynamic")
    assert torch.equal(output(quantize(dit, broken, config)), output(quantize(dit, stats, config)))


def test_our_search_is_no_worse_than_csb_on_its_own_measure(dit, stats):
    layer, config = balanced_layers(dit.transformer)["blocks.1.fc1"], QuantConfig(weight_bits=4).layer("blocks.1.fc1")
    tried = candidates(stats, layer)
    assert len(tried) > 8 and all(torch.isfinite(f).all() and (f > 0).all() for f in tried)
    chosen = searched_factor(layer, stats, config)
    assert any(torch.equal(chosen, factor) for factor in tried)
    rows, weight = stats.samples["blocks.1.fc1"].float(), layer.linears[0].weight.detach()
    csb = layer_factor(stats, layer, csb=True, ssc=True)

    def error(factor):  # of the activation alone, at float weights, which is what the search weighs most
        low, high = (ends["blocks.1.fc1"] * factor for ends in (stats.activation_min, stats.activation_max))
        scale = (high.max() - low.min()) / 255
        inputs = rows * factor
        wrong = (
            torch.fake_quantize_per_tensor_affine(inputs, float(scale), round(float(-low.min() / scale)), 0, 255)
            - inputs
        )
        return float((wrong @ (weight / factor).T).square().sum())

    float_weights = dataclasses.replace(config, weight_bits=16)
    assert error(searched_factor(layer, stats, float_weights)) <= 1.02 * error(csb)


def test_round_to_nearest_is_torchs_own(dit, stats):
    """Weights against torch's fake quantization with the channel's own extremes."""
    model = quantize(dit, stats, QuantConfig(method="rtn", weight_bits=4))
    weight = dit.transformer.transformer_blocks[1].ff.net[2].weight.detach()
    low, high = weight.amin(1).clamp(max=0), weight.amax(1).clamp(min=0)
    scale = (high - low) / 15
    zero = torch.round(-low / scale).to(torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, 0, 15)
    torch.testing.assert_close(model.transformer.transformer_blocks[1].ff.net[2].weight, expected)


def test_ptq4dm_ranges_see_its_timesteps_only(dit, stats):
    share = {"share": 0.25, "center": 0.0}
    (drawn,) = drawn_timesteps(stats.timesteps, 0.25, 0.0, stats.config.seed)
    others = torch.arange(len(stats.timesteps)) != drawn
    loud = {
        kind: {
            n: torch.where(others.reshape(-1, *(1,) * (t.ndim - 1)), t * 50, t) for n, t in getattr(stats, kind).items()
        }
        for kind in ("activation_min", "activation_max", "samples")
    }
    config = QuantConfig(method="ptq4dm", options=share)
    a, b = (quantize(dit, s, config) for s in (stats, dataclasses.replace(stats, **loud)))
    assert torch.equal(output(a), output(b))


def test_qdiffusion_learns_the_rounding_and_ptqd_takes_its_bias_out(dit, stats):
    settings = dataclasses.replace(SHORT, steps=0)
    nearest, learned, corrected = (
        quantize(dit, stats, QuantConfig(weight_bits=3, **more))
        for more in (
            {"csb": False, "ssc": False, "activation_range": "mse"},
            {"method": "qdiffusion", "reconstruction": settings},
            {"method": "ptqd", "reconstruction": settings},
        )
    )
    exact = output(dit)
    error = [float((output(model) - exact).square().mean()) for model in (nearest, learned)]
    assert error[1] < 0.8 * error[0]
    assert torch.equal(output(learned), output(corrected)) and corrected.noise_correction is not None
    data = collect(dit, stats.config, images=4, timesteps=3)
    for timestep in data.timesteps.unique():
        rows = data.timesteps == timestep
        given = {"timestep": data.timesteps[rows], "class_labels": data.labels[rows]}
        with torch.no_grad():
            wanted, got = (m.transformer(data.latents[rows], **given).sample[:, :4] for m in (dit, learned))
        better = corrected.noise_correction.correct(got, int(timestep))
        bias, left = ((x - wanted).mean((0, 2, 3)).abs().sum() for x in (got, better))
        assert left < 0.3 * bias


def test_repq_rounds_the_softmax_in_steps_of_a_root(dit, stats):
    model = quantize(dit, stats, QuantConfig(method="repq", softmax_bits=8))
    processor = model.transformer.transformer_blocks[0].attn1.processor
    assert processor.softmax_quantizer == "log_sqrt2"
    assert model.transformer.ptq4dit_record.model == stats.model


def test_refuses_what_a_method_does_not_know(dit, stats):
    cases = {
        "learns no rounding": {"method": "hadamard", "reconstruction": SHORT},
        "options of SmoothQuant among .*'alpha'": {"method": "smoothquant", "options": {"alhpa": 0.4}},
        "Hadamard rotation has no factors for fc2": {"method": "hadamard", "balance_fc2": True},
        "balance_fc2=True needs csb=True": {"csb": False, "ssc": False, "balance_fc2": True},
        "budget_size of at least 1": {"method": "qdit", "options": {"budget_size": 0}},
        "share of the timesteps": {"method": "ptq4dm", "options": {"share": 2}},
        "matches none of": {"overrides": {"blocks.9.*": {"weight_bits": 4}}},
    }
    for message, wanted in cases.items():
        with pytest.raises(ValueError, match=message):
            quantize(dit, stats, QuantConfig(**wanted))
    for bad in ({"overrides": [{"weight_bits": 4}]}, {"reconstruction": {"stepz": 1}}):
        with pytest.raises(ValueError, match="Expected"):
            QuantConfig(**bad)


def test_ours_balances_as_ptq4dit_at_few_bits_and_searches_above(dit, stats):
    prepare = METHODS["ours"].prepare
    few, many = (prepare(QuantConfig(method="ours", weight_bits=bits)) for bits in (4, 8))
    assert few.csb and few.ssc and few.reconstruction.objective == "guided"
    assert not many.csb and many.activation_range == "minmax" and many.reconstruction.objective == "samples"
    assert many.balance_fc2 and not few.balance_fc2
    coarse = prepare(QuantConfig(method="ours", weight_bits=4, activation_bits=6))
    assert coarse.csb and coarse.reconstruction.objective == "samples"
    assert coarse.reconstruction.steps == 3 * few.reconstruction.steps
    assert prepare(QuantConfig(method="ours", reconstruction=SHORT)).reconstruction == SHORT
    guided = dataclasses.replace(SHORT, steps=0, objective="guided")
    same, other = (
        quantize(dit, stats, QuantConfig(method=name, weight_bits=4, reconstruction=guided, weight_range="mse"))
        for name in ("ours", "ptq4dit")
    )
    assert torch.equal(output(same), output(other))
    plain = QuantConfig(method="ours", weight_bits=4, reconstruction=dataclasses.replace(SHORT, steps=0))
    assert not torch.equal(output(quantize(dit, stats, plain)), output(same))


@pytest.mark.parametrize("bias", [True, False])
def test_ours_centers_what_a_modulation_makes(make_dit, bias):
    """Exact in float64; afterwards every channel's range is as long above zero as below. What has no bias stays."""
    dit = make_dit(dtype=torch.float64, attention_bias=bias)
    stats = calibrate(dit, CALIBRATION)
    shifts = middles(dit.transformer, stats)
    assert list(shifts) == [n for n in stats.layers if n.endswith((".qkv", ".fc1") if bias else ".fc1")]
    moved = shift_inputs(dit.transformer, shifts)
    assert (output(dit.with_transformer(moved)) - output(dit)).abs().max() < 1e-10
    seen = calibrate(dit.with_transformer(moved), CALIBRATION)
    for name in shifts:
        low, high = seen.activation_min[name].amin(0), seen.activation_max[name].amax(0)
        torch.testing.assert_close(high, -low, rtol=0, atol=1e-6)


def test_ours_balances_fc2_above_four_bits(dit, stats):
    """Its factor is one of the candidates, and less of its input's rounding reaches the output than with one scale."""
    config = METHODS["ours"].prepare(QuantConfig(method="ours", reconstruction=dataclasses.replace(SHORT, steps=0)))
    model = quantize(dit, stats, config)
    for index, block in enumerate(model.transformer.transformer_blocks):
        name = f"blocks.{index}.fc2"
        assert any(
            torch.equal(block.ff.net[2].input_factor, factor)
            for factor in candidates(stats, get_layer(dit.transformer, name))
        )
    like, rows = dit.transformer.transformer_blocks[1].ff.net[2], stats.samples["blocks.1.fc2"].float()
    ranges = stats.activation_min["blocks.1.fc2"].min(), stats.activation_max["blocks.1.fc2"].max()
    nearest = QuantizedLinear.from_float(like, LayerConfig(weight_bits=16), ranges)
    factor = searched_factor(balanced_layers(dit.transformer)["blocks.1.fc2"], stats, LayerConfig(weight_bits=16))
    low, high = (ends["blocks.1.fc2"] * factor for ends in (stats.activation_min, stats.activation_max))
    balanced = QuantizedLinear.from_float(
        like, LayerConfig(weight_bits=16, balance_fc2=True), (low.min(), high.max()), factor=factor
    )
    wrong, less = ((layer(rows) - like(rows)).square().sum() for layer in (nearest, balanced))
    assert less < wrong


@pytest.mark.parametrize("bits", [(4, 6), (8, 8)])
def test_ours_runs_on_integers(dit, stats, bits):
    """q, k and v learn one scale of their input, without which no integer product takes them; fc2 has its factor."""
    polished = dataclasses.replace(SHORT, activation_ends=True)
    config = QuantConfig(method="ours", weight_bits=bits[0], activation_bits=bits[1], reconstruction=polished)
    model = quantize(dit, stats, config)
    assert hasattr(model.transformer.transformer_blocks[0].ff.net[2], "input_factor") == (bits == (8, 8))
    close = torch.isclose(output(with_backend(model, "integer")), output(model), rtol=0.05, atol=0.05)
    assert close.float().mean() > 0.99


TOKENS = {"method": "ours", "activation_granularity": "per_token"}


@pytest.mark.parametrize("bits", [4, 8])
def test_ours_with_a_scale_for_every_token_is_a_choice_of_the_config(bits):
    prepare = METHODS["ours"].prepare
    found = prepare(QuantConfig(weight_bits=bits, activation_group_size=8, **TOKENS))
    assert (found.csb, found.ssc) == ((True, True) if bits == 4 else (False, False))
    assert (found.activation_granularity, found.activation_group_size) == ("per_token", 8)
    for search in (0, 1):
        chosen = prepare(QuantConfig(weight_bits=bits, options={"search": search}, **TOKENS))
        assert (chosen.csb, bool(chosen.balance_inputs)) == (not search, bool(search))
        assert chosen.reconstruction.steps == 0
    assert prepare(QuantConfig(weight_bits=bits, reconstruction=SHORT, **TOKENS)).reconstruction == SHORT


@pytest.mark.parametrize("bits", [4, 8])
def test_ours_with_a_scale_for_every_token_errs_less_and_runs_on_integers(dit, stats, bits):
    """Less than nearest rounding, and at 8 bits, where ranges are what is left, less than static ours."""
    closed = dataclasses.replace(SHORT, steps=0)
    ours = quantize(dit, stats, QuantConfig(weight_bits=bits, reconstruction=closed, **TOKENS))
    plain = QuantConfig(weight_bits=bits, activation_granularity="per_token")
    static = QuantConfig(method="ours", weight_bits=bits, reconstruction=closed)
    error = [
        sum(float((output(model, t) - output(dit, t)).square().mean()) for t in (900, 400, 50))
        for model in (ours, quantize(dit, stats, plain if bits == 4 else static))
    ]
    assert error[0] < 0.9 * error[1]
    close = torch.isclose(output(with_backend(ours, "integer")), output(ours), rtol=0.05, atol=0.05)
    assert close.float().mean() > 0.99


def test_adaround_polishes_scales_of_every_token(dit, stats):
    """A few steps of it change integers, and no range is stored that they could move."""
    last = dataclasses.replace(SHORT, held_out=0.0, learning_rate=0.1)
    closed, polished = (
        quantize(
            dit, stats, QuantConfig(weight_bits=4, reconstruction=dataclasses.replace(last, steps=steps), **TOKENS)
        )
        for steps in (0, 40)
    )
    assert not any(hasattr(layer, "activation_scale") for layer in linears(polished))
    assert any(not torch.equal(a.weight_q, b.weight_q) for a, b in zip(linears(closed), linears(polished), strict=True))


def test_reconstruction_is_closer_than_nearest(dit, stats):
    exact = output(dit)
    errors = {
        name: float((output(quantize(dit, stats, config)) - exact).square().mean())
        for name, config in {
            "rtn": QuantConfig(method="rtn", weight_bits=3),
            "gptq": QuantConfig(method="gptq", weight_bits=3, reconstruction=dataclasses.replace(SHORT, steps=0)),
        }.items()
    }
    assert errors["gptq"] < 0.8 * errors["rtn"]


def test_ssc_in_four_ways(dit, stats):
    """They differ; per sample is the weighted mean over single sequences, and cannot be had of rescaled statistics."""
    ways = {
        way: quantize(dit, stats, QuantConfig(timestep_salience=way, weight_bits=4))
        for way in ("per_timestep", "per_sample", "mean", "max")
    }
    weights = [linears(model)[0].weight for model in ways.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[i + 1 :])
    seen = []
    with torch.no_grad():
        for x in torch.randn(3, 2, 5, 16, generator=torch.Generator().manual_seed(1)):
            seen.append((x, _per_sample_sums(x, stats.weight_salience["blocks.0.proj"])))
    sums = sum(found for _, found in seen)
    single = [sequence.abs().amax(0).numpy() for x, _ in seen for sequence in x]
    rho = [float(spearmanr(s, stats.weight_salience["blocks.0.proj"].numpy()).statistic) for s in single]
    share = [math.exp(-r) / sum(math.exp(-r) for r in rho) for r in rho]
    expected = sum(w * s for w, s in zip(share, single, strict=True))
    torch.testing.assert_close(sums[:-1] / sums[-1], torch.from_numpy(expected).double(), rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match="rescaled"):
        bare = dataclasses.replace(stats, sample_salience={})
        quantize(dit, bare, QuantConfig(timestep_salience="per_sample"))


def test_refuses_a_weight_that_is_not_a_number(make_dit, stats):
    broken = make_dit()
    with torch.no_grad():
        broken.transformer.transformer_blocks[1].ff.net[2].weight[0, 0] = float("nan")
    with pytest.raises(
        ValueError, match=r"finite weights.*transformer_blocks\.1\.ff\.net\.2\.weight|that was calibrated"
    ):
        quantize(broken, stats)
    own = dataclasses.replace(stats, model=_fingerprint(broken))
    with pytest.raises(ValueError, match=r"transformer_blocks\.1\.ff\.net\.2\.weight"):
        quantize(broken, own)


def _fingerprint(dit):
    from ptq4dit.model.fingerprint import fingerprint

    return fingerprint(dit.transformer)
