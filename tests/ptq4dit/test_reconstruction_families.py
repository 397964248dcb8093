"""Block-wise reconstruction of every family: blocks get what the model passes, errors fall, the work is linear."""

import copy
import dataclasses

import pytest
import torch

import ptq4dit
from ptq4dit.calibration.run import Cancelled
from ptq4dit.config.quantization import LayerConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.reconstruction.arguments import tensors_of
from ptq4dit.reconstruction.run import block_error, held_out, reconstruct_transformer
from ptq4dit.reconstruction.walk import Walk
from tests.long_form import usually
from tests.ptq4dit.model.tiny_models import ONE_EACH, TINY, tiny
from tests.ptq4dit.tiny_trajectories import family_case, recorded, rounded

FAST = ReconstructionConfig(images=12, held_out=0.25)
LEARNED = ("dit", "sd3.5", "flux", "pixart-sigma")
USUAL = ("dit", "flux")  # one stream that is given classes, two that are given words
"""What is learned of a block does not depend on the family; that a block gets what it needs is tried with all."""
POLISHED = dataclasses.replace(FAST, steps=12, batch_size=6)


def output_of(transformer, data):
    with torch.no_grad():
        return torch.cat([one.reshape(len(data), -1) for one in _outputs(transformer, data)], dim=1)


def _outputs(transformer, data):
    found = tensors_of(data.call(slice(None)).on(transformer))
    return [torch.stack(found)] if len(found) == len(data) else found  # a list of one picture a sample


def seen_blocks(transformer, paths, data):
    """What each block is given and returns in one forward of all samples: tensors."""
    seen = {}

    def keep(path):
        def hook(_block, args, kwargs, output):
            seen[path] = (tensors_of((args, kwargs)), tensors_of(output))

        return hook

    handles = [transformer.get_submodule(p).register_forward_hook(keep(p), with_kwargs=True) for p in paths]
    output_of(transformer, data)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("name", usually(TINY, ONE_EACH))
def test_every_block_gets_what_the_model_passes(name):
    exact, model, data = family_case(name, calls=3)
    walk = Walk(exact, model, data)
    seen = seen_blocks(exact, [wiring.path for wiring in walk._wiring], data)
    for wiring, (_, found) in zip(walk._wiring, walk, strict=True):
        given, made = seen[wiring.path]
        for mine, theirs in ((tensors_of(found.float_inputs.leaves), given), (found.targets, made)):
            assert len(mine) == len(theirs)
            for one, other in zip(mine, theirs, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", usually(TINY, USUAL))
def test_the_closed_form_lowers_the_error_of_held_out_samples(name):
    exact, model, data = family_case(name)
    mask, start = held_out(data.images, FAST.held_out), copy.deepcopy(model)
    reconstruct_transformer(exact, model, data, FAST)
    before, after = (total_error(exact, one, data, mask) for one in (start, model))
    assert after < 0.9 * before
    wanted, nearest, found = (output_of(one, data) for one in (exact, start, model))
    assert (found - wanted).square().mean() < (nearest - wanted).square().mean()


def total_error(exact, model, data, mask):
    return sum(block_error(pair, found.take(mask)) for pair, found in Walk(exact, model, data))


@pytest.mark.parametrize("name", usually((*LEARNED, "sana", "lumina2", "ltx"), USUAL))
def test_adaround_lowers_the_error_of_held_out_samples_further_than_none(name):
    exact, model, data = family_case(name)
    mask, start = held_out(data.images, FAST.held_out), copy.deepcopy(model)
    before = {n: p.requires_grad for n, p in model.named_parameters()}
    nearest = dataclasses.replace(POLISHED, start="nearest", steps=40, learning_rate=6e-2)
    reconstruct_transformer(exact, model, data, nearest)
    assert total_error(exact, model, data, mask) < total_error(exact, start, data, mask)
    assert {n: p.requires_grad for n, p in model.named_parameters()} == before
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["sd3", "flux", "pixart-sigma", "sana", "qwen", "wan"])
def test_the_work_is_linear_in_the_number_of_blocks(name):
    """Walking through them runs each block a fixed number of times, wherever it stands."""
    exact, model, data = family_case(name, calls=2)
    walk, calls = Walk(exact, model, data), {}

    def count(key):
        return lambda *_: calls.__setitem__(key, calls.get(key, 0) + 1)

    for owner, transformer in (("float", exact), ("quantized", model)):
        for wiring in walk._wiring:
            transformer.get_submodule(wiring.path).register_forward_hook(count((owner, wiring.path)))
    for _ in walk:
        pass
    assert all(wiring.follows for wiring in walk._wiring[1:])
    chunks = {calls["float", wiring.path] for wiring in walk._wiring}
    assert len(chunks) == 1
    last = walk._wiring[-1].path
    assert {calls["quantized", w.path] for w in walk._wiring if w.path != last} == chunks
    assert ("quantized", last) not in calls


def test_blocks_between_which_something_is_made_are_run_up_to():
    """AuraFlow joins its streams before the single blocks; the first of them is found by running the model."""
    exact, model, data = family_case("auraflow", calls=2)
    follows = {wiring.path: wiring.follows for wiring in Walk(exact, model, data)._wiring}
    assert not follows["single_transformer_blocks.0"]
    assert follows["joint_transformer_blocks.1"] and follows["single_transformer_blocks.1"]


def test_a_tensor_that_was_written_into_is_another_one():
    exact, model, data = family_case("dit", calls=2)

    def write(_block, _args, output):
        output.add_(1.0)

    second = exact.transformer_blocks[1]
    before = Walk(exact, model, data)._wiring[1]
    exact.transformer_blocks[0].register_forward_hook(write, prepend=True)
    assert before.follows and Walk(exact, model, data)._wiring[1].follows, "written before it is returned"
    second.register_forward_pre_hook(lambda _block, args: args[0].add_(1.0), prepend=True)
    assert not Walk(exact, model, data)._wiring[1].follows


@pytest.mark.parametrize("name", usually(("flux", "sd3"), USUAL))
def test_a_stopped_run_goes_on_to_the_same_bits(name, tmp_path):
    exact, model, data = family_case(name)
    settings = dataclasses.replace(POLISHED, steps=3)
    whole, stopped, resumed = (copy.deepcopy(model) for _ in range(3))
    reconstruct_transformer(exact, whole, data, settings)
    seen = []
    with pytest.raises(Cancelled):
        reconstruct_transformer(
            *(exact, stopped, data, settings),
            folder=tmp_path,
            progress=lambda done, *_: seen.append(done),
            cancelled=lambda: bool(seen) and seen[-1] >= 9,
        )
    assert len(list(tmp_path.iterdir())) == 2
    reconstruct_transformer(exact, resumed, data, settings, folder=tmp_path)
    expected = whole.state_dict()
    assert all(torch.equal(expected[key], value) for key, value in resumed.state_dict().items())


def test_conditions_are_part_of_what_a_state_is_for(tmp_path):
    exact, model, data = family_case("sd3", calls=2)
    other = {name: value + 1 for name, value in data.conditions.items()}
    for some in (data, dataclasses.replace(data, conditions=other)):
        reconstruct_transformer(exact, copy.deepcopy(model), some, FAST, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 * 3


@pytest.mark.parametrize("name", ["dit", "sd3", "flux", "qwen"])
def test_gates_multiply_the_output_of_their_site(name):
    """With the gate's rows at zero, what the site's linears make changes nothing."""
    from ptq4dit.model.families.registry import family_of

    exact, call = tiny(name, dtype=torch.float64)
    gated = {site.name: site for site in family_of(exact).sites(exact).values() if site.gate is not None}
    assert len(gated) >= 4
    for site in gated.values():
        changed = copy.deepcopy(exact)
        path, first, end = site.gate
        linear = changed.get_submodule(path)
        with torch.no_grad():
            linear.weight[first:end] = 0
            linear.bias[first:end] = 0
            shut = tensors_of(call.on(changed))
            for target in site.paths:
                changed.get_submodule(target).weight.mul_(3)
            for one, other in zip(shut, tensors_of(call.on(changed)), strict=True):
                assert torch.equal(one, other), site.name


@pytest.mark.parametrize("name", ["dit", "flux"])
def test_a_shut_gate_leaves_the_layers_behind_it_as_they_are(name):
    exact, model, data = family_case(name)
    shut = {"dit": "transformer_blocks.0.norm1.linear", "flux": "single_transformer_blocks.0.norm.linear"}[name]
    with torch.no_grad():
        for transformer in (exact, model):
            transformer.get_submodule(shut).weight.zero_()
            transformer.get_submodule(shut).bias.zero_()
    before = copy.deepcopy(model)
    reconstruct_transformer(exact, model, data, dataclasses.replace(FAST, held_out=0.0))
    block = shut.rsplit(".", 2)[0]
    behind = [n for n, m in model.get_submodule(block).named_modules() if isinstance(m, QuantizedLinear)]
    behind = [n for n in behind if n.endswith(("to_out.0", "ff.net.2", "proj_out"))]
    assert behind
    for layer in behind:
        one, other = (m.get_submodule(block).get_submodule(layer) for m in (before, model))
        assert torch.equal(one.weight, other.weight) and torch.equal(one.activation_scale, other.activation_scale)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


@pytest.mark.parametrize("scale", [0.0, 1e-25])
@pytest.mark.parametrize("part", ["attn1.to_v", "norm1.linear"])
def test_dead_and_nearly_dead_layers_are_no_obstacle(part, scale):
    """Values that are zero make a Hessian of zeros behind them; modulations of 1e-25 square to nothing in float32."""
    exact, _ = tiny("dit", dtype=torch.float32)
    with torch.no_grad():
        for value in exact.get_submodule(f"transformer_blocks.0.{part}").parameters():
            value.mul_(scale)
    data = recorded("dit", exact)
    model = rounded(exact, data, LayerConfig(weight_bits=4, activation_bits=16))
    reconstruct_transformer(exact, model, data, dataclasses.replace(POLISHED, steps=2))
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_sample_alone_is_what_it_is_among_others():
    """A model that pads to the longest prompt is given the longest and the shortest one with every chunk."""
    exact, model, data = family_case("lumina2", calls=3)
    assert data.extremes().tolist() == [0, 1]
    some = data.take(torch.tensor([0, 1, 3, 5]))
    for (_, one), (_, other) in zip(Walk(exact, model, data), Walk(exact, model, some), strict=True):
        for mine, theirs in zip(one.take(torch.tensor([0, 1, 3, 5])).targets, other.targets, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_data_that_do_not_fit_are_refused():
    exact, model, data = family_case("sd3", calls=2)
    wrong = dataclasses.replace(data, latents=data.latents[:, :3])
    with pytest.raises(ValueError, match="Expected inputs that fit this SD3Transformer2DModel"):
        reconstruct_transformer(exact, model, wrong, FAST)


@pytest.mark.parametrize("name", usually(("flux", "sana", "wan"), USUAL))
def test_quantize_transformer_learns_from_recorded_calls(name):
    exact, _, data = family_case(name)
    with ptq4dit.watch(exact) as seen, torch.no_grad():
        for row in range(len(data)):
            data.call(torch.tensor([row])).on(exact)
    config = ptq4dit.QuantConfig(weight_bits=4, reconstruction=dataclasses.replace(FAST, held_out=0.0))
    plain, learned = (
        ptq4dit.quantize_transformer(exact, seen.calibration(), some, data=data)
        for some in (dataclasses.replace(config, reconstruction=None), config)
    )
    wanted, nearest, found = (output_of(one, data) for one in (exact, plain, learned))
    assert (found - wanted).square().mean() < 0.8 * (nearest - wanted).square().mean()
