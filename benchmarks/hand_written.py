"""SphereFace nets as one would write them in PyTorch, which benchmarks compare with."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["UNITS", "HandWritten"]

UNITS = {"20": (1, 2, 4, 1), "64": (3, 7, 16, 3)}  # residual units of the four stages


class Unit(nn.Module):
    """Two convolutions and PReLUs, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu1 = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu2 = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + f(x)."""
        return x + self.relu2(self.conv2(self.relu1(self.conv1(x))))


class HandWritten(nn.Module):
    """SphereFace-20, or another depth, as one would write it in PyTorch."""

    def __init__(self, units: tuple[int, ...] = UNITS["20"]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, count in zip((64, 128, 256, 512), units, strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.PReLU(outputs)]
            layers += [Unit(outputs) for _ in range(count)]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.fc5 = nn.Linear(512 * 7 * 6, 512)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding."""
        return self.fc5(self.features(x).flatten(1))
