"""The next letter of Python's own source: each device has some modules."""

from torch import nn

from fedlog.data import group_id, standard_library


class Letters(nn.Module):
    """Scores of every next letter, shape (n, time, 128)."""

    def __init__(self, width):
        super().__init__()
        self.table = nn.Embedding(128, width)
        self.cells = nn.GRU(width, 2 * width, batch_first=True)
        self.head = nn.Linear(2 * width, 128)

    def forward(self, text):
        """From letters of shape (n, time)."""
        return self.head(self.cells(self.table(text))[0])


def model(width=32):
    """A recurrent network."""
    return Letters(width)


def data(part):
    """Windows of 32 letters, and the letters that follow."""
    x, y = standard_library(modules_max=40).share(part, group_id)
    return x[:400], y[:400]
