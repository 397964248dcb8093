"""Single channels kept in float, taken out or scaled: against float, the plain quantized layer, and a layer without."""

import pytest
import torch
from torch import nn

from ptq4dit.calibration.run import calibrate
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.channels import ChannelChange, change_channels
from ptq4dit.model.layers import balanced_layers
from ptq4dit.paper.salience import most_salient
from ptq4dit.quantized.balance import layer_factor
from ptq4dit.quantized.convert import convert
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.quantized.ranges import static_range
from ptq4dit.quantized.sparing import SparingLinear, without

SITE = "blocks.1.fc1"
CONFIG = QuantConfig(weight_bits=4, csb=False, ssc=False)


@pytest.fixture(scope="module")
def wide(make_dit):
    """In float64, so that nothing but rounding shows."""
    return make_dit(dtype=torch.float64)


@pytest.fixture(scope="module")
def stats(wide):
    return calibrate(wide, CalibrationConfig(timesteps=3, samples_per_timestep=2, steps=3, rows_per_timestep=8))


@pytest.fixture(scope="module")
def predict(wide):
    """What a bundle makes of one call."""
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 8, 8, generator=draw, dtype=torch.float64)

    def call(bundle):
        with torch.no_grad():
            labels, times = torch.tensor([0, 3]), torch.tensor([900, 100])
            return bundle.transformer(latents, timestep=times, class_labels=labels).sample

    return call


def off(one, other):
    return float((one - other).norm() / other.norm())


def plain(wide, stats, site=SITE, **settings):
    """The model in which the rounding of all other sites is switched off."""
    others = {name: {"weight_bits": 16, "activation_bits": 16} for name in stats.layers if name != site}
    return convert(wide, stats, QuantConfig(weight_bits=4, csb=False, ssc=False, overrides=others, **settings))


@pytest.mark.parametrize("site", [SITE, "blocks.0.qkv", "blocks.0.fc2"])
def test_no_channel_kept_is_the_plain_quantized_layer(wide, stats, predict, site):
    changed = change_channels(wide, stats, CONFIG, {site: ChannelChange()})
    assert torch.equal(predict(changed), predict(plain(wide, stats, site)))
    assert off(predict(changed), predict(wide)) > 1e-3


@pytest.mark.parametrize("granularity", ["per_tensor", "per_token", "per_timestep_group"])
def test_all_channels_kept_is_float(wide, stats, predict, granularity):
    config = QuantConfig(
        weight_bits=2, activation_bits=3, csb=False, ssc=False, activation_granularity=granularity, timestep_groups=3
    )
    every = {name: ChannelChange(kept=tuple(range(64))[: width_of(wide, name)]) for name in stats.layers}
    assert off(predict(change_channels(wide, stats, config, every)), predict(wide)) < 1e-12


def width_of(bundle, name):
    return balanced_layers(bundle.transformer)[name].in_features


@pytest.mark.parametrize("gain", [0.0, 0.5, 3.0])
def test_a_scaled_channel_is_a_scaled_column_of_the_weight(make_dit, wide, stats, predict, gain):
    other = make_dit(dtype=torch.float64)
    for linear in balanced_layers(other.transformer)["blocks.0.qkv"].linears:
        with torch.no_grad():
            linear.weight[:, 5] *= gain
    change = ChannelChange(rounded=False, gains={5: gain})
    changed = predict(change_channels(wide, stats, CONFIG, {"blocks.0.qkv": change}))
    assert off(changed, predict(other)) < 1e-12 < off(changed, predict(wide))


@pytest.mark.parametrize("activation_range", ["minmax", "mse", "percentile", "moving"])
def test_what_is_rounded_knows_nothing_of_what_is_kept(wide, stats, activation_range):
    """The rest is a layer of its own, with its own range; the kept channels are added in float."""
    kept, linear = (7, 2), balanced_layers(wide.transformer)[SITE].linears[0]
    config = QuantConfig(weight_bits=4, csb=False, ssc=False, activation_range=activation_range)
    changed = change_channels(wide, stats, config, {SITE: ChannelChange(kept=kept)}).transformer
    rest = [j for j in range(linear.in_features) if j not in kept]
    alone = nn.Linear(len(rest), linear.out_features, dtype=torch.float64)
    with torch.no_grad():
        alone.weight.copy_(linear.weight[:, rest])
        alone.bias.copy_(linear.bias)
    cut = {kind: {SITE: getattr(stats, kind)[SITE][..., rest]} for kind in ("activation_min", "activation_max")}
    settings = config.layer(SITE)
    limits = static_range(*(cut[kind][SITE] for kind in cut), stats.samples[SITE][..., rest].float(), settings)
    expected = QuantizedLinear.from_float(alone, settings, limits)
    x = torch.randn(9, linear.in_features, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    with torch.no_grad():
        wanted = expected(x[:, rest]) + x[:, list(kept)] @ linear.weight[:, list(kept)].T
        assert off(changed.get_submodule("transformer_blocks.1.ff.net.0.proj")(x), wanted) < 1e-12


def test_keeping_the_salient_channels_brings_the_layer_back(wide, stats, predict):
    """With one channel a hundred times as salient the others have no levels left; that one in float gives them back."""
    gains = {3: 100.0}
    one, kept = (ChannelChange(gains=gains, kept=kept) for kept in ((), (3,)))
    config = QuantConfig(weight_bits=16, activation_bits=4, csb=False, ssc=False)
    exact = predict(change_channels(wide, stats, config, {SITE: ChannelChange(rounded=False, gains=gains)}))
    rounded, spared = (off(predict(change_channels(wide, stats, config, {SITE: c})), exact) for c in (one, kept))
    assert spared < rounded / 2
    salience = stats.activation_salience[SITE] * torch.where(torch.arange(16) == 3, 100.0, 1.0)
    assert most_salient(salience, 1) == [3] and len(most_salient(salience, 99)) == 16 and not most_salient(salience, 0)


def test_a_site_that_balances_itself_rounds_what_folding_would(wide, stats, predict):
    layers = balanced_layers(wide.transformer)
    for site in (SITE, "blocks.1.proj"):
        factor = layer_factor(stats, layers[site], csb=True, ssc=True)
        others = {name: {"weight_bits": 16, "activation_bits": 16} for name in stats.layers if name != site}
        folded = convert(wide, stats, QuantConfig(weight_bits=4, overrides=others), {site: factor})
        itself = change_channels(wide, stats, CONFIG, {site: ChannelChange(factor=factor)})
        assert off(predict(itself), predict(folded)) < 0.02 * off(predict(folded), predict(wide))
        nothing = ChannelChange(rounded=False, factor=factor)
        assert torch.equal(predict(change_channels(wide, stats, CONFIG, {site: nothing})), predict(wide))


def test_the_model_stays_as_it_is_and_its_tensors_are_shared(wide, stats, predict):
    before, state = predict(wide), {name: value.clone() for name, value in wide.transformer.state_dict().items()}
    changed = change_channels(wide, stats, CONFIG, {SITE: ChannelChange(kept=(1,), gains={2: 0.0})})
    predict(changed)
    assert torch.equal(predict(wide), before)
    assert all(torch.equal(value, state[name]) for name, value in wide.transformer.state_dict().items())
    mine, own = (one.transformer.get_submodule("transformer_blocks.0.ff.net.0.proj") for one in (changed, wide))
    assert mine.weight.data_ptr() == own.weight.data_ptr()


def test_a_convolution_of_one_position_is_a_linear_of_its_channels():
    draw = torch.Generator().manual_seed(0)
    linear, conv = nn.Linear(6, 4).double(), nn.Conv2d(6, 4, 1).double()
    with torch.no_grad():
        conv.weight.copy_(linear.weight[:, :, None, None])
        conv.bias.copy_(linear.bias)
    rest, gains = torch.arange(6) != 2, torch.tensor([1, 1, 2, 1, 0.5, 1])
    x = torch.randn(2, 6, 3, 5, generator=draw, dtype=torch.float64)
    with torch.no_grad():
        one = SparingLinear(conv, without(conv, rest), rest, gains)(x)
        other = SparingLinear(linear, without(linear, rest), rest, gains)(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        scaled = linear(x.permute(0, 2, 3, 1) * gains).permute(0, 3, 1, 2)
    assert off(one, scaled) < 1e-12 and off(other, scaled) < 1e-12
    with pytest.raises(ValueError, match="one kernel position"):
        without(nn.Conv2d(6, 4, 3), rest)


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"blocks.9.fc1": ChannelChange()}, {}, "Unknown layer 'blocks.9.fc1'"),
        ({SITE: ChannelChange(kept=(16,))}, {}, "channels 0 to 15 of 'blocks.1.fc1', got 16"),
        ({SITE: ChannelChange(gains={0: -1.0})}, {}, "gain of at least 0 for channel 0"),
        ({SITE: ChannelChange(gains={0: float("nan")})}, {}, "gain of at least 0"),
        ({SITE: ChannelChange()}, {"rotation": True}, "rotation=False"),
    ],
)
def test_what_cannot_be_done_is_said(wide, stats, changes, settings, message):
    with pytest.raises(ValueError, match=message):
        change_channels(wide, stats, QuantConfig(csb=False, ssc=False, **settings), changes)


def test_another_models_statistics_are_refused(make_dit, stats):
    with pytest.raises(ValueError, match="the model that was calibrated"):
        change_channels(make_dit(seed=1), stats, CONFIG, {SITE: ChannelChange()})
