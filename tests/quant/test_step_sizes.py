import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples

from bitsearch.layers.learned_allocation import LOG_STEP_RANGE
from bitsearch.quant.step_sizes import nearest_power, powers_between, step_size


def test_every_exponent_that_a_learned_logarithm_may_have_is_exact():
    exponents = range(math.floor(LOG_STEP_RANGE[0] / math.log(2)), math.ceil(LOG_STEP_RANGE[1] / math.log(2)) + 1)
    logs = torch.tensor([exponent * math.log(2) for exponent in exponents])
    assert step_size(logs, power_of_two=True).tolist() == [2.0**exponent for exponent in exponents]


@examples(50)
@given(st.floats(-18.25, 50, width=32))
def test_the_power_is_the_nearest_by_its_logarithm_and_its_gradient_that_of_a_free_size(log_step):
    latent = torch.tensor(log_step, requires_grad=True)
    power = step_size(latent, power_of_two=True)
    mantissa, _ = math.frexp(power.item())
    assert mantissa == 0.5
    # The quotient that is rounded is off by a rounding of float32 or two.
    assert abs(math.log2(power.item()) - log_step / math.log(2)) <= 0.5 + 2**-17
    power.backward()
    assert latent.grad == power


def test_a_free_size_is_the_exponential():
    logs = torch.tensor([[-3.0], [0.25]], requires_grad=True)
    assert torch.equal(step_size(logs), logs.exp())


def test_a_power_is_its_own_nearest():
    powers = torch.exp2(torch.arange(-27.0, 73.0))
    assert torch.equal(nearest_power(powers.log()), powers)


@pytest.mark.parametrize(
    ("least", "largest", "powers"),
    [(0.3, 2.1, [0.5, 1, 2, 4]), (0.25, 1, [0.25, 0.5, 1]), (3, 3, [4])],
)
def test_powers_between(least, largest, powers):
    assert powers_between(least, largest).tolist() == powers
