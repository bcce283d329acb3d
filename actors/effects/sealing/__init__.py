"""The tier sealed, where bodies are opened; aggregator, shard workers and audit come here.

- `epoch_keys`: the private keys of epochs, in a folder that aggregators and shard workers share
- `opening`: what a sealed body was sealed for, and what is in it
- `summing`: the sums that shard workers make of sealed rounds
- `turning`: makes the key of the next epoch, and destroys those that are over
"""
