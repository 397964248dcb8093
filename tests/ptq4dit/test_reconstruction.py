"""Block-wise reconstruction on tiny random models: what it must lower, keep, store and refuse."""

import copy
import dataclasses
import json
import math

import pytest
import torch

from ptq4dit.calibration.run import Cancelled, calibrate
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.calibration.trajectories import collect
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.model.layers import balanced_layers
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.quantized.balance import absorbed, model_factors
from ptq4dit.quantized.convert import convert
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.reconstruction.adaround import softened
from ptq4dit.reconstruction.capture import input_of, output_of
from ptq4dit.reconstruction.closed_form import round_block
from ptq4dit.reconstruction.rounding import (
    inverse_rectified_sigmoid,
    rectified_sigmoid,
    round_learned,
    rounding_penalty,
)
from ptq4dit.reconstruction.run import block_error, held_out, reconstruct
from ptq4dit.reconstruction.training import training_data
from ptq4dit.reconstruction.walk import Walk
from tests.long_form import usually

CALIBRATION = CalibrationConfig(timesteps=3, samples_per_timestep=6, steps=5, rows_per_timestep=16, seed=1)
W4A8 = QuantConfig(weight_bits=4)
FAST = ReconstructionConfig(steps=0, images=6, held_out=0.2)
VARIANTS = {
    "static": {},
    "symmetric": {"activation_symmetric": True},
    "groups of timesteps": {"activation_granularity": "per_timestep_group", "timestep_groups": 2},
    "dynamic": {"activation_granularity": "per_token"},
    "grouped weights": {"group_size": 8, "weight_bits": 3},
    "float activations": {"activation_bits": 16},
    "rotation and branch": {"rotation": True, "rank": 2, "csb": False, "ssc": False},
    "balanced fc2": {"balance_fc2": True, "activation_bits": 6},
    "everything": {
        "attention_bits": 8,
        "softmax_bits": 8,
        "patch_embed": True,
        "conditioning": True,
        "modulation": True,
        "final_layer": True,
    },
}


@pytest.fixture(scope="module")
def stats(dit) -> Calibration:
    return calibrate(dit, CALIBRATION)


@pytest.fixture(scope="module")
def data(dit):
    return collect(dit, CALIBRATION)


def made(dit, stats, config):
    """The folded float bundle and its quantized twin."""
    layers = balanced_layers(dit.transformer)
    factors = model_factors(stats, layers, config)
    folded = reparameterize(dit.transformer, absorbed(factors, layers)) if factors else dit.transformer
    return dit.with_transformer(folded), convert(dit, stats, config, factors)


def quantized_linears(model):
    return {n: m for n, m in model.transformer.named_modules() if isinstance(m, QuantizedLinear)}


def output_error(dit, model, data):
    tensors = {"timestep": data.timesteps, "class_labels": data.labels}
    with torch.no_grad():
        exact, rounded = (m.transformer(data.latents, **tensors).sample for m in (dit, model))
    return float((exact - rounded).square().mean())


def first_block(folded, model, data, guidance=1.0):
    return next(iter(Walk(folded.transformer, model.transformer, data, guidance)))


def test_the_walk_gives_every_block_what_it_gets_in_the_whole_models(dit, stats, data):
    config = dataclasses.replace(W4A8, patch_embed=True, modulation=True, **VARIANTS["groups of timesteps"])
    folded, model = made(dit, stats, config)
    seen = {}

    def keep(owner, index):
        def hook(_block, args, kwargs, output):
            seen[owner, index] = (args[0] if args else kwargs["hidden_states"], output)

        return hook

    for owner, bundle in (("float", folded), ("quantized", model)):
        blocks = bundle.transformer.transformer_blocks
        hooks = [b.register_forward_hook(keep(owner, i), with_kwargs=True) for i, b in enumerate(blocks)]
        with torch.no_grad():
            bundle.transformer(data.latents, timestep=data.timesteps, class_labels=data.labels)
        for hook in hooks:
            hook.remove()
    for index, (_, found) in enumerate(Walk(folded.transformer, model.transformer, data)):
        torch.testing.assert_close(found.float_inputs.leaves[0], seen["float", index][0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.targets[0], seen["float", index][1], rtol=1e-4, atol=1e-4)
        close = torch.isclose(found.inputs.leaves[0], seen["quantized", index][0], rtol=1e-3, atol=1e-3)
        assert close.float().mean() > 0.99  # another order of sums may flip a rounding


def test_data_of_another_shape_are_refused(dit, stats, data):
    folded, model = made(dit, stats, W4A8)
    other = dataclasses.replace(data, latents=data.latents[..., :4])
    with pytest.raises(ValueError, match="Expected latents of shape"):
        reconstruct(folded, model, other, FAST)


@pytest.mark.parametrize("name", usually(VARIANTS, ("static", "dynamic", "everything")))
def test_closed_form_lowers_the_error_and_stays_on_the_grid(dit, stats, data, name):
    config = dataclasses.replace(W4A8, **VARIANTS[name])
    folded, model = made(dit, stats, config)
    before = copy.deepcopy(model.transformer.state_dict())
    result = reconstruct(folded, model, data, FAST)
    share = 0.95 if name == "everything" else 0.8  # what stays at nearest makes most of the error there
    assert output_error(dit, result, data) < share * output_error(dit, model, data)
    for path, linear in quantized_linears(result).items():
        assert linear.weight_q.max() <= 2**linear.config.weight_bits - 1
        groups = linear.weight_q.float().unflatten(1, (linear.weight_scale.shape[1], -1))
        steps = groups - linear.weight_zero_point[..., None]
        torch.testing.assert_close(linear.weight, (steps * linear.weight_scale[..., None]).flatten(1))
        assert torch.equal(linear.weight_zero_point, quantized_linears(model)[path].weight_zero_point)
    after = model.transformer.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_views_are_the_samples_and_what_guidance_makes_of_them(dit, stats, data):
    folded, model = made(dit, stats, W4A8)
    _, pairs = first_block(folded, model, data.take(data.pairs()[:3].flatten()), guidance=4.0)
    values = torch.tensor([1.0, 2.0, 10.0, 10.0, 0.0, 1.0]).reshape(6, 1, 1)
    assert pairs.views(values).flatten().tolist() == [1, 2, 10, 10, 0, 1, 4 - 6, 40 - 30, -3]
    assert pairs.view_weights(values[:, 0, 0]).tolist() == [1, 2, 10, 10, 0, 1, 1.5, 10, 0.5]
    single = dataclasses.replace(pairs, guidance=1.0)
    assert single.views(values) is values and single.group == 1
    drawn = pairs.draw(torch.arange(6), 4, torch.Generator().manual_seed(0))
    assert len(drawn) == 4 and (drawn[1::2] == drawn[0::2] + 1).all() and (drawn[0::2] % 2 == 0).all()


def test_guided_rounding_lowers_what_guidance_makes_of_the_error(dit, stats, data):
    """Of the first linears' outputs, about their mean, on the data that they learn from."""
    folded, model = made(dit, stats, dataclasses.replace(W4A8, weight_bits=3, activation_bits=16))
    paired, errors = data.take(data.pairs().flatten()), {}
    for guidance in (1.0, 4.0):
        pair, inputs = first_block(folded, copy.deepcopy(model), paired, guidance)
        round_block(pair, inputs, damping=0.001)
        given = input_of(pair.exact, "attn1.to_q", inputs.inputs.on)
        rows = dataclasses.replace(inputs, guidance=4.0).views(given)
        centered = (rows - rows.mean((0, 1))).flatten(0, 1)
        layers = [(pair.block.get_submodule(n), pair.exact.get_submodule(n)) for n in ("attn1.to_q", "attn1.to_v")]
        wrong = [rounded.weight - exact.weight for rounded, exact in layers]
        errors[guidance] = float((centered @ torch.cat(wrong).T.detach()).square().sum())
    assert errors[4.0] < 0.95 * errors[1.0]


@pytest.mark.parametrize("steps", [0, 3])
def test_guided_reconstruction_of_some_samples(dit, stats, data, steps):
    folded, model = made(dit, stats, W4A8)
    config = dataclasses.replace(FAST, objective="guided", samples=20, tokens=300, steps=steps, batch_size=4)
    result = reconstruct(folded, model, data, config)
    assert output_error(dit, result, data) < output_error(dit, model, data)
    plain = reconstruct(folded, model, data, dataclasses.replace(config, objective="samples"))
    assert output_error(result, plain, data) > 0
    with pytest.raises(ValueError, match="both halves of guidance"):
        reconstruct(folded, model, data.take((data.labels != dit.null_class).nonzero()[:, 0]), config)


def test_training_data_are_as_many_as_the_config_asks_for(dit):
    plain = training_data(dit, CALIBRATION, None)
    assert len(plain) == 6 * 3 * 2
    asked = training_data(dit, CALIBRATION, ReconstructionConfig(images=4, sampling_steps=2))
    assert len(asked) == 4 * 2 * 2 and asked.timesteps.unique().tolist() == [0, 500]


def test_layers_with_float_weights_and_other_bits_are_respected(dit, stats, data):
    overrides = {"blocks.0.fc1": {"weight_bits": 16, "activation_bits": 16}, "blocks.*.fc2": {"weight_bits": 2}}
    folded, model = made(dit, stats, dataclasses.replace(W4A8, overrides=overrides))
    result = reconstruct(folded, model, data, dataclasses.replace(FAST, steps=3))
    kept = "transformer_blocks.0.ff.net.0.proj"
    assert torch.equal(result.transformer.get_submodule(kept).weight, folded.transformer.get_submodule(kept).weight)
    assert all(m.weight_q.max() <= 3 for n, m in quantized_linears(result).items() if n.endswith("ff.net.2"))
    assert output_error(dit, result, data) < output_error(dit, model, data)


def test_the_mean_of_the_block_is_kept_by_its_biases(dit, stats, data):
    """Closed-form biases: the mean output of the last layer of the feed-forward is the float one's."""
    folded, model = made(dit, stats, W4A8)
    pair, found = first_block(folded, model, data)
    round_block(pair, found, damping=0.01, activation_scales=False)
    with torch.no_grad():
        seen = {
            "float": output_of(pair.exact, "attn1.to_q", found.float_inputs.on),
            "quantized": output_of(pair.block, "attn1.to_q", found.inputs.on),
        }
    torch.testing.assert_close(seen["quantized"].mean((0, 1)), seen["float"].mean((0, 1)), rtol=1e-3, atol=1e-4)


def test_adaround_beats_nearest_and_rounds_up_or_down_only(dit, stats, data):
    folded, model = made(dit, stats, dataclasses.replace(W4A8, weight_bits=3))
    settings = ReconstructionConfig.paper(steps=60, batch_size=8, learning_rate=6e-2, regularization=1e-3, images=6)
    result = reconstruct(folded, model, data, settings)
    assert output_error(dit, result, data) < 0.8 * output_error(dit, model, data)
    for path, linear in quantized_linears(result).items():
        position = folded.transformer.get_submodule(path).weight / linear.weight_scale + linear.weight_zero_point
        distance = (linear.weight_q - position.clamp(0, 7)).abs()
        assert distance.max() < 1 + 1e-3
        start = quantized_linears(model)[path]
        assert torch.equal(linear.weight_scale, start.weight_scale) and torch.equal(linear.bias, start.bias)
        assert not torch.equal(linear.activation_scale, start.activation_scale)
    for block in result.transformer.transformer_blocks:
        ones = [block.get_submodule(f"attn1.to_{name}").activation_scale for name in "qkv"]
        assert torch.equal(ones[0], ones[1]) and torch.equal(ones[0], ones[2])  # one input, one integer tensor


def test_activation_scales_can_be_left_alone(dit, stats, data):
    folded, model = made(dit, stats, W4A8)
    settings = ReconstructionConfig(steps=4, batch_size=4, images=6, activation_scales=False, held_out=0.0)
    result = reconstruct(folded, model, data, settings)
    for path, linear in quantized_linears(result).items():
        assert torch.equal(linear.activation_scale, quantized_linears(model)[path].activation_scale)


WHOLE = ("everything", "groups of timesteps")


@pytest.mark.parametrize("start", ["nearest", "gptq"])
@pytest.mark.parametrize("name", usually(("static", "symmetric", *WHOLE), WHOLE))
def test_soft_and_hard_blocks_agree(dit, stats, data, name, start):
    """Before the first step: softened it is closer to the float block, and hardened it is what it was."""
    folded, model = made(dit, stats, dataclasses.replace(W4A8, **VARIANTS[name]))
    pair, found = first_block(folded, model, data)
    targets = round_block(pair, found, damping=0.01) if start == "gptq" else None
    before, own = block_error(pair, found), dict(pair.block.named_modules())
    integers = {n: m.weight_q.clone() for n, m in own.items() if isinstance(m, QuantizedLinear)}
    with softened(pair, targets) as soft:
        found.tell()
        (output,) = soft(found.inputs)
        error = float((output - found.targets[0]).detach().square().mean())
        output.square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in soft.parameters("rounding"))
        with soft.hard():
            assert block_error(pair, found) == pytest.approx(before, rel=1e-4 if targets else 0.3)
            if targets:
                assert all(torch.equal(own[n].weight_q, integers[n]) for n in integers)
    assert error < before or name == "everything"  # whose q, k, v are rounded, too: no closed form knows of that
    assert dict(pair.block.named_modules()) == own


def test_polishing_the_closed_form_is_closer_than_either_alone(dit, stats, data):
    """AdaRound from the closed form against as many steps from nearest rounding, and against none, on its own data."""
    folded, model = made(dit, stats, dataclasses.replace(W4A8, weight_bits=3))
    settings = ReconstructionConfig(steps=120, batch_size=8, images=6, held_out=0.0, activation_scales=False)
    errors = {}
    for start, steps in (("gptq", 120), ("gptq", 0), ("nearest", 120)):
        config = dataclasses.replace(settings, start=start, steps=steps)
        result = reconstruct(folded, model, data, config)
        errors[start, steps] = block_error(*first_block(folded, result, data))
    assert errors["gptq", 120] < 0.97 * errors["gptq", 0] and errors["gptq", 120] < 0.97 * errors["nearest", 120]


def test_training_reaches_the_layers_behind_a_rounded_attention(dit, stats, data):
    folded, model = made(dit, stats, dataclasses.replace(W4A8, **VARIANTS["everything"]))
    settings = ReconstructionConfig.paper(batch_size=4, images=6, learning_rate=0.3)
    start, trained = (reconstruct(folded, model, data, dataclasses.replace(settings, steps=n)) for n in (0, 3))
    path = "transformer_blocks.0.attn1.to_q"
    assert not torch.equal(quantized_linears(start)[path].weight, quantized_linears(trained)[path].weight)


def test_a_block_without_gain_ends_early(dit, stats, data):
    folded, model = made(dit, stats, W4A8)
    wild = ReconstructionConfig(start="nearest", steps=20, learning_rate=50.0, images=6, batch_size=4, held_out=0.34)
    seen = []
    reconstruct(folded, model, data, wild, progress=lambda done, total, left: seen.append((done, left)))
    whole = 1 + wild.steps
    steps = [sum(index * whole + 1 < done <= (index + 1) * whole for done, _ in seen) for index in range(2)]
    assert all(6 <= count < wild.steps for count in steps)
    assert seen[-1] == (2 * whole, 0.0) and seen[1][1] == math.inf, "no step was timed yet"
    calm = dataclasses.replace(wild, held_out=0.0)
    seen.clear()
    reconstruct(folded, model, data, calm, progress=lambda done, total, left: seen.append((done, left)))
    assert len(seen) == 3 + 2 * whole


def test_never_worse_than_the_start_on_held_out_images(dit, stats, data):
    folded, model = made(dit, stats, W4A8)
    wild = ReconstructionConfig(start="nearest", steps=5, learning_rate=50.0, images=6, held_out=0.34)
    result = reconstruct(folded, model, data, wild)
    mask = held_out(data.images, 0.34)
    pair, found = first_block(folded, result, data)
    start, _ = first_block(folded, model, data)
    held = found.take(mask)
    assert block_error(pair, held) <= block_error(start, held) * (1 + 1e-6)


def test_holding_out_is_by_image():
    images = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    assert held_out(images, 0.25).tolist() == [False, False, False, True] * 2
    assert held_out(images, 0.01).sum() == 2 and held_out(images, 0.99).sum() == 6
    assert not held_out(images, 0.0).any() and not held_out(torch.tensor([4, 4]), 0.5).any()


def test_the_same_seed_gives_the_same_bits_and_another_one_other_bits(dit, stats, data):
    folded, model = made(dit, stats, W4A8)
    settings = ReconstructionConfig(steps=4, batch_size=4, images=6, held_out=0.0, learning_rate=0.1)
    states = [
        reconstruct(folded, model, data, dataclasses.replace(settings, seed=seed)).transformer.state_dict()
        for seed in (0, 0, 1)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_in_place_gives_the_same_bits_and_a_copy_leaves_the_model(dit, stats, data):
    folded, model = made(dit, stats, W4A8)
    before = copy.deepcopy(model.transformer.state_dict())
    copied = reconstruct(folded, model, data, FAST)
    assert all(torch.equal(value, before[key]) for key, value in model.transformer.state_dict().items())
    changed = reconstruct(folded, model, data, FAST, in_place=True)
    assert changed.transformer is model.transformer
    state = changed.transformer.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in copied.transformer.state_dict().items())


def test_a_stopped_run_goes_on_to_the_same_bits(dit, stats, data, tmp_path):
    folded, model = made(dit, stats, W4A8)
    settings = ReconstructionConfig(steps=4, batch_size=4, images=6)
    whole = reconstruct(folded, model, data, settings).transformer.state_dict()
    seen = []
    with pytest.raises(Cancelled):
        reconstruct(
            *(folded, model, data, settings),
            folder=tmp_path,
            progress=lambda done, total, left: seen.append((done, total, left)),
            cancelled=lambda: bool(seen) and seen[-1][0] >= 7,
        )
    assert len(list(tmp_path.iterdir())) == 1 and seen[-1][:2] == (7, 10)
    again = []
    resumed = reconstruct(
        *(folded, model, data, settings), folder=tmp_path, progress=lambda done, *_: again.append(done)
    )
    assert all(torch.equal(whole[key], value) for key, value in resumed.transformer.state_dict().items())
    assert again[:3] == [0, 5, 6] and again[-1] == 10 and len(list(tmp_path.iterdir())) == 2
    reconstruct(folded, model, data, dataclasses.replace(settings, seed=9), folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4  # other settings share nothing


def test_a_damaged_state_is_refused(dit, stats, data, tmp_path):
    folded, model = made(dit, stats, W4A8)
    reconstruct(folded, model, data, FAST, folder=tmp_path)
    first = sorted(tmp_path.iterdir())[0]
    first.write_bytes(first.read_bytes()[:50])
    with pytest.raises(ValueError, match="damaged"):
        reconstruct(folded, model, data, FAST, folder=tmp_path)


def test_progress_ends_with_everything_done_and_no_time_left(dit, stats, data):
    folded, model = made(dit, stats, W4A8)
    seen = []
    settings = ReconstructionConfig(steps=2, batch_size=4, images=6, held_out=0.0)
    reconstruct(folded, model, data, settings, progress=lambda *a: seen.append(a))
    assert [done for done, *_ in seen] == sorted(done for done, *_ in seen)
    assert seen[-1] == (6, 6, 0.0) and all(left >= 0 for *_, left in seen)
    with pytest.raises(Cancelled):
        reconstruct(folded, model, data, settings, cancelled=lambda: True)


def test_quantize_runs_it(dit, stats, data):
    plain = quantize(dit, stats, W4A8)
    better = quantize(dit, stats, dataclasses.replace(W4A8, reconstruction=FAST), data=data)
    assert output_error(dit, better, data) < 0.8 * output_error(dit, plain, data)


def test_layers_of_one_input_round_it_once_with_one_scale(dit, stats, data):
    folded, model = made(dit, stats, W4A8)
    pair, found = first_block(folded, model, data)
    with softened(pair) as soft, torch.no_grad():
        assert len(soft.parameters("input_range.log_scale")) == 4
        q, k, v = (soft.layers[f"attn1.to_{name}"] for name in "qkv")
        x = input_of(pair.exact, "attn1.to_q", found.inputs.on)
        first = q.round_input(x)
        assert k.round_input(x) is first and v.round_input(x) is first
        assert not torch.equal(q.round_input(2 * x), first), "a layer that is used twice rounds what it is given"
        before = soft(found.inputs)[0]
        k.input_range.log_scale.add_(0.5)
        assert not torch.equal(soft(found.inputs)[0], before), "every forward rounds anew"
        changed = q.round_input(x)
        with soft.hard():
            torch.testing.assert_close(changed, pair.block.get_submodule("attn1.to_v").round_input(x))


@pytest.mark.parametrize("number", [float, torch.tensor], ids=["numbers", "tensors"])
def test_rounding_with_gradient_is_that_of_lsq(number):
    x = torch.tensor([-3.0, -0.6, 0.2, 0.74, 9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    y = round_learned(x, scale, number(-2.0), number(5.0))
    assert y.tolist() == [-1.0, -0.5, 0.0, 0.5, 2.5]
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    inside = [(-1 + 1.2), (0 - 0.4), (1 - 1.48)]
    assert scale.grad.item() == pytest.approx(-2 + 5 + sum(inside), rel=1e-5)


def test_rectified_sigmoid_and_its_inverse():
    h = torch.linspace(0, 1, 11)
    torch.testing.assert_close(rectified_sigmoid(inverse_rectified_sigmoid(h)), h, rtol=1e-5, atol=1e-6)
    assert rectified_sigmoid(torch.tensor([-20.0, 20.0])).tolist() == [0.0, 1.0]
    assert rounding_penalty(torch.tensor([0.0, 1.0, 1.0]), 2.0) == 0
    assert rounding_penalty(torch.tensor([0.5, 0.75]), 2.0).item() == pytest.approx(1 + 0.75)


def test_config_survives_json_and_refuses_nonsense():
    config = QuantConfig(reconstruction=ReconstructionConfig.paper(seed=3))
    assert QuantConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json())["reconstruction"]["steps"] == 20_000
    for bad in ({"steps": -1}, {"batch_size": 0}, {"held_out": 1.0}, {"beta": (1.0, 2.0)}, {"samples": 0}):
        with pytest.raises(ValueError, match="Expected"):
            ReconstructionConfig(**bad)
    for bad in ({"learning_rate": 0.0}, {"damping": float("nan")}, {"warmup": -0.1}, {"images": True}):
        with pytest.raises(ValueError, match="Expected"):
            ReconstructionConfig(**bad)


def test_it_can_be_stopped_before_every_chunk_and_every_step(dit, stats, data, monkeypatch):
    """Never do more layers run between two questions whether to stop than one chunk of one block has."""
    monkeypatch.setattr("ptq4dit.reconstruction.data.CHUNK_TOKENS", 16)
    monkeypatch.setattr("ptq4dit.reconstruction.walk.CHUNK_TOKENS", 16)
    folded, model = made(dit, stats, W4A8)
    passed, most = [0], [0]

    def count(*_):
        passed[0] += 1
        most[0] = max(most[0], passed[0])

    for layer in quantized_linears(model).values():
        layer.register_forward_hook(count)

    def asked():
        passed[0] = 0
        return False

    settings = ReconstructionConfig(steps=2, batch_size=2, images=6, held_out=0.5, activation_ends=True)
    reconstruct(folded, model, data, settings, cancelled=asked, in_place=True)
    assert 0 < most[0] <= len(quantized_linears(model)) // 2


def test_ours_can_be_stopped_between_layers_while_it_searches(dit, stats, monkeypatch):
    asked = []
    monkeypatch.setattr("ptq4dit.methods.method.training_data", lambda *_, **__: pytest.fail("It went on."))

    def third():
        asked.append(None)
        return len(asked) > 2

    with pytest.raises(Cancelled):
        quantize(dit, stats, QuantConfig(method="ours", weight_bits=8), cancelled=third)
