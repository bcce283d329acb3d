"""Trains a small transformer on letters of the standard library, and keeps it as base.pt for lora.py."""

import torch
from lora import Transformer

from fedlog.data import standard_library

torch.manual_seed(0)
x, y = standard_library(modules_max=20).train
x, y = torch.from_numpy(x).long(), torch.from_numpy(y).long()
net = Transformer()
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
for _ in range(150):
    rows = torch.randint(len(x), (64,))
    loss = torch.nn.functional.cross_entropy(net(x[rows]).flatten(0, 1), y[rows].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.save(net.state_dict(), "base.pt")
