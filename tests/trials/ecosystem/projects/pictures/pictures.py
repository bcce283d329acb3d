"""A convolutional network with BatchNorm on handwritten digits; run as a script it trains on all of them at once."""

import torch
from torch import nn

from fedlog.data import digits, dirichlet


def model():
    """64 pixels in, a score for each digit out."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def data(part):
    """The share of one device, or what is held out."""
    return digits().share(part, dirichlet, alpha=1.0, size_min=10)


def train_centrally(epochs=8):
    """The accuracy that the same network reaches where all examples lie in one place."""
    torch.manual_seed(0)
    net, (x, y), (x_test, y_test) = model(), digits().train, digits().test
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(16):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(torch.from_numpy(x)[rows]), torch.from_numpy(y)[rows]).backward()
            optimizer.step()
    right = net.eval()(torch.from_numpy(x_test)).argmax(1) == torch.from_numpy(y_test)
    return float(right.float().mean())


if __name__ == "__main__":
    print(train_centrally())  # noqa: T201
