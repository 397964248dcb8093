"""The paper's formulas on cases worked by hand, against scipy, and as invariants."""

import warnings

import pytest
import torch
from scipy.stats import spearmanr

from ptq4dit.paper.csb import balance_factors
from ptq4dit.paper.salience import channel_salience, weight_salience
from ptq4dit.paper.ssc import calibrated_salience, middle_timestep_salience, spearman_rho, timestep_weights


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01


def test_channel_salience_by_hand():
    x = torch.tensor([[[1.0, -4.0, 0.0], [2.0, 3.0, 0.0]], [[-3.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    assert channel_salience(x).tolist() == [3, 4, 0]
    assert weight_salience([x[0], x[1]]).tolist() == [3, 4, 0]


def test_balancing_by_hand():
    """s(X) = (4, 1), s(W) = (1, 9): both become s~ = (2, 3), and the worst salience falls from 9 to 3 (eq. 8)."""
    b_x, b_w = balance_factors(torch.tensor([4.0, 1.0]), torch.tensor([1.0, 9.0]))
    assert b_x.tolist() == [0.5, 3.0]
    torch.testing.assert_close(b_w, torch.tensor([2.0, 1 / 3]))


def test_balancing_by_hand_with_ssc():
    """Two timesteps, one complementary (rho = -1) and one aligned (rho = 1): eta = (e, 1/e) / (e + 1/e)."""
    activation, weight = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), torch.tensor([9.0, 5.0, 1.0])
    assert spearman_rho(activation, weight).tolist() == [-1.0, 1.0]
    e = torch.e
    eta = torch.tensor([e, 1 / e]) / (e + 1 / e)
    torch.testing.assert_close(timestep_weights(activation, weight), eta)
    torch.testing.assert_close(calibrated_salience(activation, weight), eta[0] * activation[0] + eta[1] * activation[1])


def test_balancing_invariants():
    x, w = torch.randn(50, 12, dtype=torch.float64) * uniform(12) * 30, torch.randn(7, 12, dtype=torch.float64)
    before = channel_salience(x), channel_salience(w)
    b_x, b_w = balance_factors(*before)
    after = channel_salience(x * b_x), channel_salience(w * b_w)
    torch.testing.assert_close((x * b_x) @ (w * b_w).T, x @ w.T)
    torch.testing.assert_close(after[0], after[1])
    torch.testing.assert_close(after[0], (before[0] * before[1]).sqrt())
    assert max(after[0].max(), after[1].max()) <= max(before[0].max(), before[1].max())


def test_zero_salience_is_left_alone():
    b_x, b_w = balance_factors(torch.tensor([0.0, 2.0, 0.0, 2.0]), torch.tensor([3.0, 0.0, 0.0, 8.0]))
    assert b_x.tolist() == [1, 1, 1, 2] and b_w.tolist() == [1, 1, 1, 0.5]


def test_extreme_salience_does_not_overflow():
    b_x, b_w = balance_factors(torch.tensor([1e-38, 1e38]), torch.tensor([1e38, 1e-38]))
    assert torch.isfinite(b_x).all() and torch.isfinite(b_w).all() and (b_x > 0).all() and (b_w > 0).all()


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -1.0])
@pytest.mark.parametrize("position", [0, 1])
def test_refuses_impossible_salience(wrong, position):
    saliences = [torch.ones(3), torch.ones(3)]
    saliences[position][1] = wrong
    with pytest.raises(ValueError, match=r"salience to be finite and non-negative, got .* in channel 1"):
        balance_factors(*saliences)


@pytest.mark.parametrize("levels", [2, 3, 10, 10**9])
@pytest.mark.parametrize("channels", [2, 7, 192])
def test_rho_equals_scipy_with_ties(levels, channels):
    a, b = ((uniform(6, channels, seed=seed) * levels).floor() for seed in (1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch.tensor([spearmanr(a[i], b[i]).statistic for i in range(6)]).nan_to_num(0.0)
    torch.testing.assert_close(spearman_rho(a, b), expected, rtol=0, atol=1e-12)


def test_rho_of_a_constant_is_zero_and_spoils_no_weight():
    a = torch.stack([torch.ones(5), torch.arange(5.0)])
    assert spearman_rho(torch.ones(5), torch.arange(5.0)) == 0
    assert spearman_rho(a, torch.zeros(5)).tolist() == [0, 0]
    assert torch.isfinite(timestep_weights(a, torch.arange(5.0))).all()


def test_rho_sees_order_only():
    a, b = uniform(40, seed=1), uniform(40, seed=2)
    torch.testing.assert_close(spearman_rho(a, b), spearman_rho(a.exp() * 7, b**3))
    assert spearman_rho(a, a) == 1 and spearman_rho(a, -a) == -1


def test_weights_sum_to_one_and_prefer_complementary_timesteps():
    activation, weight = uniform(9, 30), uniform(30, seed=5)
    eta, rho = timestep_weights(activation, weight), spearman_rho(activation, weight)
    torch.testing.assert_close(eta.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert torch.equal(eta.argsort(), rho.argsort(descending=True))


def test_one_timestep_is_its_own_salience():
    activation = uniform(1, 8)
    torch.testing.assert_close(calibrated_salience(activation, uniform(8, seed=3)), activation[0])
    assert torch.equal(middle_timestep_salience(activation), activation[0])


def test_middle_timestep():
    activation = torch.arange(5.0)[:, None].expand(5, 3)
    assert middle_timestep_salience(activation).tolist() == [2, 2, 2]
    assert middle_timestep_salience(activation[:4]).tolist() == [2, 2, 2]


def test_inputs_are_left_alone():
    activation, weight = uniform(4, 6), uniform(6, seed=1)
    copies = activation.clone(), weight.clone()
    calibrated_salience(activation, weight)
    balance_factors(activation[0], weight)
    assert torch.equal(activation, copies[0]) and torch.equal(weight, copies[1])
