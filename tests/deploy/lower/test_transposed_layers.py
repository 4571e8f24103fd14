"""Networks with transposed convolutions, packed, read by hand and replayed."""

import pytest
import torch
from calibration import calibrate
from packed_reader import run as run_by_hand
from spikingjelly.activation_based import functional, layer, neuron
from test_lowering import check_equal
from torch import nn

from bitsearch import pack, read
from bitsearch.cost import CostModel, trace
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import UniformBits


class UNet(nn.Module):
    """Of spiking neurons in multi-step mode; its deconvolutions read spikes, one of them beside a skip."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.down1, self.down2 = layer.Conv2d(1, 2, 3, padding=1), layer.Conv2d(2, 4, 3, stride=2, padding=1)
        self.up, self.norm = layer.ConvTranspose2d(4, 2, 2, stride=2, groups=2), layer.BatchNorm2d(2)
        self.last = layer.ConvTranspose2d(4, 3, 3, padding=1)
        self.a, self.b, self.c = neuron.IFNode(0.2), neuron.LIFNode(v_threshold=0.1), neuron.IFNode(0.1)
        self.pool, self.flatten = layer.AdaptiveAvgPool2d(1), layer.Flatten()
        functional.set_step_mode(self, "m")

    def forward(self, x):
        wide = self.a(self.down1(x))
        y = self.c(self.norm(self.up(self.b(self.down2(wide)))))
        return self.flatten(self.pool(self.last(torch.cat([wide, y], -3))))


def deployable(network, x, *, granularity="layer", time_axis=True, **bits):
    network.eval()
    model = CostModel(trace(network, x, time_axis=time_axis))
    bits = UniformBits(**{"weight_bits": 3, "spike_bits": 2, "time_steps": 2} | bits)
    plan = model.uniform(bits, None, granularity=granularity)
    return calibrate(convert(network, plan), x), model.cost("weight_memory", plan)


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_a_unet_of_spiking_neurons_is_deployed_spike_by_spike(granularity, tmp_path):
    x = torch.randn(4, 3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    network, memory = deployable(UNet(), x, granularity=granularity)
    lowered = check_equal(network, x)
    assert lowered.program.layers["up"].output_padding == (0, 0)
    assert lowered.program.layers["down1"].output_padding is None
    path = tmp_path / "packed"
    assert pack(network, x, path) == memory
    replay = read(path).replay()
    outputs, fraction = run_by_hand(path, x[:, 0].flatten().tolist())
    assert replay(x[:, :1]).tolist() == [outputs]
    assert fraction == replay.analysis.values[-1].fraction


class Sized(nn.Module):
    """The size of a skip says which of the sizes that a stride leaves open is meant."""

    def __init__(self, twice=False):
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ConvTranspose2d(3, 3, 3, stride=2, padding=1)
        self.twice = twice

    def forward(self, x):
        y = torch.relu(self.down(x))
        z = self.up(y, output_size=x.shape[2:])
        return self.up(y) if self.twice else z + z


def test_a_size_that_a_call_asks_for_is_deployed(tmp_path):
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network, _ = deployable(Sized(), x, time_axis=False)
    lowered = check_equal(network, x)
    assert lowered.program.layers["up"].output_padding == (1, 1)
    path = tmp_path / "packed"
    pack(network, x, path)
    outputs, _ = run_by_hand(path, x[0].flatten().tolist())
    assert read(path).replay()(x[:1]).flatten().tolist() == outputs


def test_two_sizes_of_one_layer_are_refused_by_name(tmp_path):
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network, _ = deployable(Sized(twice=True), x, time_axis=False)
    with pytest.raises(InputError, match="layer 'up' runs several times, to different sizes; give each run its own"):
        pack(network, x, tmp_path / "packed")
