import re

import pytest

from bitsearch.report import style
from bitsearch.report.front_figure import front_figure
from bitsearch.report.page import page_part


def luminance(colour):
    """Relative luminance of ``#rrggbb`` by WCAG 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first, second):
    dim, bright = sorted((luminance(first), luminance(second)))
    return (bright + 0.05) / (dim + 0.05)


GROUNDS = sorted(set(re.findall(r"--card: (#[0-9a-f]{6})", page_part("page.css"))))


def test_contrast_is_that_of_the_guidelines():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, rel=0, abs=0.005)


@pytest.mark.parametrize("ground", GROUNDS)
def test_every_mark_stands_out_from_light_and_dark(ground):
    assert len(GROUNDS) == 2
    names = ("BLUE", "VERMILION", "GREEN", "ORANGE", "PURPLE", "GREY", "SKY", "SLATE", "OLIVE")
    for colour in {getattr(style, name) for name in names} | {look["color"] for look in style.LOOKS}:
        assert contrast(colour, ground) >= 3, colour
    assert max(contrast(style.GOLD, ground), contrast(style.EDGE, ground)) >= 3
    bars = re.findall(r"(?:--bar|\\.steps span .* background): (#[0-9a-f]{6})", page_part("page.css"))
    assert len(bars) >= 4
    for colour in bars:
        assert contrast(colour, ground) >= 3, colour


@pytest.mark.parametrize("ground", GROUNDS)
def test_shaded_cells_are_the_ground_where_nothing_is_and_readable_where_much_is(ground):
    (ink,) = [
        re.search(r"--ink: (#[0-9a-f]{6})", rule)[1]
        for rule in re.findall(r":root \{(.*?)\}", page_part("page.css"), flags=re.DOTALL)[:2]
        if f"--card: {ground}" in rule
    ]
    for colour in (style.VERMILION, style.BLUE):
        assert blended(style.shaded(colour, 0), ground) == ground
        assert contrast(ink, blended(style.shaded(colour), ground)) >= 4
        assert contrast(ground, blended(style.shaded(colour), ground)) >= 2


def blended(shade, ground):
    """The colour that a cell has on the page."""
    *parts, opacity = map(float, re.findall(r"[\d.]+", shade))
    grounds = [int(ground[place : place + 2], 16) for place in (1, 3, 5)]
    mixed = [round(opacity * part + (1 - opacity) * under) for part, under in zip(parts, grounds, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def test_dominated_trials_are_small_and_not_faint(run_folder):
    figure, _ = front_figure(run_folder.plans(), run_folder.chosen(), run_folder.settings)
    trials = [trace for trace in figure.data if trace.meta == "trials"]
    assert len(trials) == 2
    for trace in trials:
        assert trace.unselected.marker.opacity == 1
        assert 4 < trace.unselected.marker.size < trace.marker.size
