"""Model plugins that come with fedlog; each takes the policy's `model_arguments` and returns a torch module.

They normalise by group: BatchNorm's running statistics would take a share of the clip norm, and noise with privacy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from client_agent.learning.layout import ModelError

# No side, width or number of classes is larger; how large the whole may be is asked of the made-up model (`meta`).
SIZE_MAX = 1 << 24


def softmax_regression(*, inputs: int = 64, classes: int = 10) -> nn.Module:
    """One linear layer on flattened features; starts at zero."""
    _check_sizes("softmax_regression", inputs=inputs, classes=classes)
    layer = nn.Linear(inputs, classes)
    # A convex loss needs no random start, and zeros make runs comparable.
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layer)


def simple_cnn(*, side: int = 8, channels: int = 1, classes: int = 10, width: int = 16) -> nn.Module:
    """Two convolutions and two linear layers for square images of `side` pixels (a multiple of 4; 28 for MNIST)."""
    _check_sizes("simple_cnn", side=side, channels=channels, classes=classes, width=width)
    if side % 4:
        raise ModelError(f"model_arguments.side = {side}: simple_cnn wants a multiple of 4")
    return nn.Sequential(
        _Images(channels, side),
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (side // 4) ** 2, 4 * width),
        nn.ReLU(),
        nn.Linear(4 * width, classes),
    )


def resnet18(*, side: int = 32, channels: int = 3, classes: int = 10, width: int = 64, groups: int = 8) -> nn.Module:
    """ResNet-18 (He et al. 2016) for small images: a 3 x 3 stem without pooling, GroupNorm for BatchNorm."""
    _check_sizes("resnet18", side=side, channels=channels, classes=classes, width=width, groups=groups)
    if width % groups:
        raise ModelError(f"model_arguments.width = {width}: resnet18 wants a multiple of groups = {groups}")
    layers: list[nn.Module] = [_Images(channels, side), *_convolution(channels, width, groups=groups), nn.ReLU()]
    before = width
    for stage in range(4):
        after = width << stage
        # Each later stage halves the image and doubles the channels.
        layers += [_Residual(before, after, groups, 1 if stage == 0 else 2), _Residual(after, after, groups, 1)]
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def _check_sizes(model: str, **sizes: object) -> None:
    """Raises ModelError for the first argument that is no size."""
    # Torch takes some of these: a width of 0 is a model that learns nothing, a negative group ends the process later.
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= SIZE_MAX:
            raise ModelError(
                f"model_arguments.{name} = {size!r:.80}: {model} wants a whole number from 1 to {SIZE_MAX}"
            )


class _Images(nn.Module):
    """Rows of features as square images."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.shape = (channels, side, side)

    def forward(self, features: Tensor) -> Tensor:
        return features.reshape(len(features), *self.shape)


class _Residual(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, before: int, after: int, groups: int, stride: int) -> None:
        super().__init__()
        first, second = (
            _convolution(before, after, groups=groups, stride=stride),
            _convolution(after, after, groups=groups),
        )
        self.body = nn.Sequential(*first, nn.ReLU(), *second)
        # Where the shape changes, the shortcut has to change it as well.
        same = before == after and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*_convolution(before, after, groups=groups, stride=stride, size=1))
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.body(features) + self.shortcut(features))


def _convolution(before: int, after: int, *, groups: int, stride: int = 1, size: int = 3) -> list[nn.Module]:
    # The normalisation that follows has a bias of its own.
    convolution = nn.Conv2d(before, after, size, stride=stride, padding=size // 2, bias=False)
    return [convolution, nn.GroupNorm(groups, after)]
