import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

from bitsearch.errors import InputError
from bitsearch.models.spiking_mlp import recurrent_spiking_mlp, spiking_mlp


def run(network, x):
    functional.reset_net(network)
    return network(x)


@pytest.mark.parametrize("make", [spiking_mlp, recurrent_spiking_mlp])
@torch.no_grad()
def test_logits_of_every_frame_and_hidden_widths(make):
    torch.manual_seed(0)
    network = make(input_shape=(6, 9), classes=4, width=7, depth=2, tau=3.0)
    assert run(network, torch.randn(6, 5, 9)).shape == (6, 5, 4)
    neurons = [module for module in network.modules() if isinstance(module, neuron.LIFNode)]
    assert [(part.tau, part.v_reset, part.decay_input) for part in neurons] == [(3.0, None, False)] * 2
    widths = [module.out_features for module in network.modules() if isinstance(module, nn.Linear)]
    assert widths == [7, 7, 4] if make is spiking_mlp else [7, 7, 7, 7, 4]


@torch.no_grad()
def test_the_recurrent_network_is_its_equations():
    torch.manual_seed(0)
    network = recurrent_spiking_mlp(input_shape=(6, 9), classes=4, width=7, depth=1, tau=4.0).double()
    x = 3 * torch.randn(6, 5, 9, dtype=torch.double)
    block = network.blocks[0]
    spikes = membrane = torch.zeros(5, 7, dtype=torch.double)
    expected, fired = [], 0.0
    for frame in x:
        current = frame @ block.forwards.weight.t() + block.forwards.bias + spikes @ block.back.weight.t()
        membrane = 0.75 * membrane + current
        spikes = (membrane >= 1).double()
        membrane = membrane - spikes
        fired += spikes.sum()
        expected.append(spikes @ network.classifier.weight.t() + network.classifier.bias)
    torch.testing.assert_close(run(network, x), torch.stack(expected), rtol=1e-12, atol=1e-12)
    assert 0 < fired < 6 * 5 * 7


@pytest.mark.parametrize("make", [spiking_mlp, recurrent_spiking_mlp])
def test_every_weight_learns_by_the_surrogate_gradient(make):
    torch.manual_seed(0)
    network = make(input_shape=(6, 9), classes=4, width=12)
    run(network, 3 * torch.randn(6, 5, 9)).square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("make", [spiking_mlp, recurrent_spiking_mlp])
def test_wrong_options_are_refused(make):
    for tau in (1, True, "4", float("inf")):
        with pytest.raises(InputError, match=rf"network '{make.__name__}': tau is .*; give a number of frames above 1"):
            make(tau=tau)
    with pytest.raises(InputError, match="width is 0; give a whole number"):
        make(width=0)
    with pytest.raises(InputError, match=r"takes inputs of shape \(T, features\); given: \(1, 8, 8\)"):
        make(input_shape=(1, 8, 8))
