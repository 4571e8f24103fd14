from rich.console import Console

from bitsearch.cli.terminal.progress import print_conversion
from bitsearch.layers import Converted


def shown(rows):
    console = Console(width=100, record=True)
    print_conversion(rows, console)
    return [" ".join(line.strip("│ ").split()) for line in console.export_text().splitlines()]


def test_modules_of_one_fate_share_a_row_and_what_is_left_has_one_each():
    rows = [
        Converted("conv1", "Conv2d", "a quantized layer"),
        Converted("sn", "IFNode", "the refined neuron of the layers behind it"),
        Converted("conv2", "Conv2d", "a quantized layer"),
        Converted("up", "ConvTranspose2d", "left", "ConvTranspose2d cannot be given bits"),
        Converted("", "Net", "left", "matrix products outside of layers"),
    ]
    lines = shown(rows)
    assert "conv1 … conv2 (2) │ Conv2d │ a quantized layer" in lines
    assert "sn │ IFNode │ the refined neuron of the layers behind it" in lines
    assert "up │ ConvTranspose2d │ left as it is: ConvTranspose2d cannot be given bits" in lines
    assert "(the network) │ Net │ left as it is: matrix products outside of layers" in lines


def test_names_are_no_markup():
    assert "[bold]x[/bold] │ Linear │ a quantized layer" in shown(
        [Converted("[bold]x[/bold]", "Linear", "a quantized layer")]
    )
