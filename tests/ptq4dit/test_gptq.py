"""The closed form against what it claims: exact least squares, exact corrections, and the best of all grids."""

import itertools

import pytest
import torch

from ptq4dit.reconstruction.gptq import best_scale, coordinate_descent, gptq, hessian_error, least_squares_weight


def problem(rows=6, columns=12, bits=3, tokens=60, seed=0, groups=1):
    """A weight, correlated inputs and an asymmetric grid: weight, inputs, Hessian, low, high, scale (all float64)."""
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=g, dtype=torch.float64) / columns**0.5
    inputs = torch.randn(tokens, columns, generator=g, dtype=torch.float64) @ mixing + 0.3
    weight = torch.randn(rows, columns, generator=g, dtype=torch.float64)
    parts = weight.unflatten(1, (groups, -1))
    small, large = parts.amin(2), parts.amax(2)
    scale = (large - small) / (2**bits - 1)
    zero = torch.round(-small / scale)

    def spread(x):
        return x.repeat_interleave(columns // groups, 1)

    return weight, inputs, inputs.T @ inputs, spread(-zero), spread(2**bits - 1 - zero), spread(scale)


def nearest(weight, low, high, scale):
    return torch.maximum(torch.minimum(torch.round(weight / scale), high), low)


def row_errors(weight, rounded, scale, hessian):
    difference = weight - rounded * scale
    return ((difference @ hessian) * difference).sum(1)


def test_hessian_error_is_the_squared_error_of_the_outputs():
    weight, inputs, hessian, low, high, scale = problem()
    difference = weight - nearest(weight, low, high, scale) * scale
    torch.testing.assert_close(hessian_error(difference, hessian), (inputs @ difference.T).square().sum())


@pytest.mark.parametrize("diagonal", [torch.ones(12), torch.rand(12, generator=torch.Generator().manual_seed(1)) + 0.1])
def test_independent_inputs_give_nearest_rounding(diagonal):
    """No column can make up for another one, whatever the order."""
    weight, _, _, low, high, scale = problem()
    rounded, moved = gptq(weight / scale, torch.diag(diagonal.double()), low, high, scale)
    assert torch.equal(rounded, nearest(weight, low, high, scale))
    torch.testing.assert_close(moved, weight / scale)


@pytest.mark.parametrize("columns", [5, 140])
def test_every_column_makes_up_exactly_for_those_before_it(columns):
    """When a column is rounded it lies where the least damped error puts it, the earlier columns fixed as rounded."""
    weight, _, hessian, low, high, scale = problem(rows=3, columns=columns, tokens=4 * columns)
    rounded, moved = gptq(weight / scale, hessian, low, high, scale, damping=0.02)
    damped = hessian + 0.02 * hessian.diagonal().mean() * torch.eye(columns, dtype=torch.float64)
    order = hessian.diagonal().argsort(descending=True, stable=True).tolist()
    for done in range(columns):
        fixed, free = order[:done], order[done:]
        error = (weight - rounded * scale)[:, fixed]
        shift = torch.linalg.solve(damped[free][:, free], damped[free][:, fixed] @ error.T).T
        expected = (weight[:, free] + shift)[:, 0] / scale[:, free[0]]
        torch.testing.assert_close(moved[:, free[0]], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("bits", [2, 4])
def test_less_error_than_nearest_and_inside_the_grid(bits, groups):
    weight, _, hessian, low, high, scale = problem(rows=32, columns=48, bits=bits, tokens=500, groups=groups)
    before = weight.clone()
    rounded, moved = gptq(weight / scale, hessian, low, high, scale)
    closed = row_errors(weight, rounded, scale, hessian)
    assert closed.sum() < 0.8 * row_errors(weight, nearest(weight, low, high, scale), scale, hessian).sum()
    assert torch.equal(rounded, torch.round(rounded)) and (rounded >= low).all() and (rounded <= high).all()
    assert torch.equal(rounded, nearest(moved, low, high, torch.ones_like(moved)))
    assert torch.equal(weight, before)


@pytest.mark.parametrize("seed", range(5))
def test_no_better_than_trying_every_grid_point(seed):
    weight, _, hessian, low, high, scale = problem(rows=4, columns=4, bits=2, seed=seed)
    rounded, _ = gptq(weight / scale, hessian, low, high, scale)
    polished = coordinate_descent(rounded, weight, hessian, low, high, scale, passes=10)
    steps = torch.tensor(list(itertools.product(range(4), repeat=4)), dtype=torch.float64)
    for row in range(4):
        candidates = (steps + low[row]) * scale[row]
        difference = weight[row] - candidates
        best = ((difference @ hessian) * difference).sum(1).min()
        closed = row_errors(weight, rounded, scale, hessian)[row]
        descended = row_errors(weight, polished, scale, hessian)[row]
        assert best <= descended + 1e-9 and descended <= closed + 1e-9


def test_coordinate_descent_never_rises_and_ends_where_no_single_change_helps():
    weight, _, hessian, low, high, scale = problem(rows=8, columns=20, bits=2, tokens=200)
    start = nearest(weight, low, high, scale)
    errors = [row_errors(weight, start, scale, hessian)]
    for passes in (1, 2, 30):
        rounded = coordinate_descent(start, weight, hessian, low, high, scale, passes=passes)
        errors.append(row_errors(weight, rounded, scale, hessian))
        assert (errors[-1] <= errors[-2] + 1e-9).all()
    assert (errors[-1] < errors[0]).any()
    for column, change in itertools.product(range(20), (-3, -2, -1, 1, 2, 3)):
        other = rounded.clone()
        other[:, column] = (other[:, column] + change).clamp(low[:, column], high[:, column])
        assert (row_errors(weight, other, scale, hessian) >= errors[-1] - 1e-9).all()


def test_coordinate_descent_spans_blocks_of_columns():
    """150 columns are worked in two pieces; the bookkeeping between them is that of one column at a time."""
    weight, _, hessian, low, high, scale = problem(rows=2, columns=150, bits=3, tokens=400)
    start = nearest(weight, low, high, scale)
    expected = start.clone()
    for j in range(150):
        slope = (weight - expected * scale) @ hessian[:, j] / (hessian[j, j] * scale[:, j])
        expected[:, j] = torch.round(expected[:, j] + slope).clamp(low[:, j], high[:, j])
    assert torch.equal(coordinate_descent(start, weight, hessian, low, high, scale), expected)


def test_target_is_the_least_squares_weight():
    """Damped least squares written out: stack sqrt(lambda) rows under the inputs and ask for W there."""
    weight, inputs, hessian, *_ = problem()
    wanted = inputs @ weight.T + 0.5 * torch.randn(inputs.shape[0], 6, dtype=torch.float64)
    ridge = (0.03 * hessian.diagonal().mean()).sqrt() * torch.eye(12, dtype=torch.float64)
    expected = torch.linalg.lstsq(torch.cat([inputs, ridge]), torch.cat([wanted, ridge @ weight.T])).solution.T
    found = least_squares_weight(weight, hessian, wanted.T @ inputs, 0.03)
    torch.testing.assert_close(found, expected)


def test_target_stays_where_the_inputs_are_exact():
    weight, _, hessian, *_ = problem()
    torch.testing.assert_close(least_squares_weight(weight, hessian, weight @ hessian, 0.01), weight)


@pytest.mark.parametrize("groups", [1, 3])
def test_best_scale_is_least_squares_for_the_given_integers(groups):
    weight, inputs, hessian, low, high, scale = problem(bits=4, groups=groups)
    rounded = nearest(weight, low, high, scale)
    narrow = scale[:, :: 12 // groups]
    found = best_scale(rounded, weight, hessian, narrow)
    for row in range(len(weight)):
        parts = rounded[row].unflatten(0, (groups, -1))
        design = torch.stack([inputs.unflatten(1, (groups, -1))[:, k] @ parts[k] for k in range(groups)], dim=1)
        expected = torch.linalg.lstsq(design, (inputs @ weight[row])[:, None]).solution[:, 0]
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-4)


def test_best_scale_keeps_what_it_cannot_improve_sensibly():
    """Integers that are all zero leave the scale undetermined."""
    weight, _, hessian, _, _, scale = problem()
    kept = best_scale(torch.zeros_like(weight), weight, hessian, scale[:, :1])
    assert torch.equal(kept, scale[:, :1])


def test_channels_that_are_never_used_stay_finite_and_nearest():
    weight, inputs, _, low, high, scale = problem()
    inputs[:, [2, 7]] = 0
    hessian = inputs.T @ inputs
    rounded, _ = gptq(weight / scale, hessian, low, high, scale)
    polished = coordinate_descent(rounded, weight, hessian, low, high, scale, passes=2)
    assert torch.isfinite(rounded).all() and torch.isfinite(polished).all()
    assert torch.equal(rounded[:, [2, 7]], nearest(weight, low, high, scale)[:, [2, 7]])
    assert torch.equal(polished[:, [2, 7]], rounded[:, [2, 7]])
    silent, _ = gptq(weight / scale, torch.zeros_like(hessian), low, high, scale)
    assert torch.equal(silent, nearest(weight, low, high, scale))


def test_a_hessian_of_zeros_keeps_the_weight():
    weight, _, hessian, low, high, scale = problem()
    nothing = torch.zeros_like(hessian)
    assert torch.equal(least_squares_weight(weight, nothing, nothing[:6], 0.01), weight)
    rounded, _ = gptq(weight / scale, nothing, low, high, scale)
    polished = coordinate_descent(rounded, weight, nothing, low, high, scale)
    assert torch.equal(polished, nearest(weight, low, high, scale))
    assert torch.equal(best_scale(polished, weight, nothing, scale[:, :1]), scale[:, :1])


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_what_rounding_left_indefinite_is_damped_more_relative_to_its_own_diagonal(size):
    """A Hessian summed in float32 may have an eigenvalue below zero that the wanted damping does not lift."""
    weight, _, hessian, low, high, scale = problem(tokens=8)
    vector = torch.linalg.eigh(hessian).eigenvectors[:, 0]
    broken = size * (hessian - 1e-6 * hessian.diagonal().mean() * torch.outer(vector, vector))
    rounded, _ = gptq(weight / scale, broken, low, high, scale, damping=1e-9)
    target = least_squares_weight(weight, broken, weight @ broken, 1e-9)
    assert torch.isfinite(rounded).all() and (rounded >= low).all() and (rounded <= high).all()
    torch.testing.assert_close(target, weight)


def test_a_hessian_that_is_not_finite_is_refused():
    weight, _, hessian, low, high, scale = problem()
    hessian[0, 0] = float("nan")
    with pytest.raises(ValueError, match="Expected finite inputs"):
        gptq(weight / scale, hessian, low, high, scale)
