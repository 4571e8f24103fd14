"""Where Akida's convolutions and poolings put their windows, and how a network's own come to lie there.

``same`` pads as TensorFlow does, an odd row behind the last; torch pads alike on both sides, which with a stride leaves
the odd row before the first. Of an image turned by 180° either is the other. On an AKD1000 only the first layer may be
``valid``, without padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Mode = Literal["same", "valid"]


@dataclass(frozen=True)
class Window:
    """Windows of a convolution or pooling along one axis."""

    length: int
    count: int
    kernel: int
    stride: int
    padding: int
    """In front."""

    def fits(self, mode: Mode, *, turned: bool) -> bool:
        """Whether Akida's windows are these, of an image that is turned or not."""
        span = (self.count - 1) * self.stride + self.kernel
        if mode == "valid":
            return (
                self.padding == 0
                and self.count == (self.length - self.kernel) // self.stride + 1
                and (not turned or span == self.length)
            )
        total = max(span - self.length, 0)
        behind = span - self.length - self.padding
        front = behind if turned else self.padding
        return self.count == -(-self.length // self.stride) and front == total // 2


def common_modes(layers: Sequence[Sequence[Window]]) -> tuple[bool, list[Mode]] | int:
    """Whether the image is to be turned, and every layer's mode; or else the first layer that no such choice fits."""
    furthest = 0
    for turned in (False, True):
        modes: list[Mode] = []
        for windows in layers:
            mode = _mode(windows, ("same",) if modes else ("same", "valid"), turned=turned)
            if mode is None:
                break
            modes.append(mode)
        else:
            return turned, modes
        furthest = max(furthest, len(modes))
    return furthest


def _mode(windows: Sequence[Window], allowed: Sequence[Mode], *, turned: bool) -> Mode | None:
    return next((mode for mode in allowed if all(window.fits(mode, turned=turned) for window in windows)), None)
