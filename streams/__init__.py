"""The log: append, read and tail. Knows nothing of learning."""
