"""The tier masked, in decisions.

- `hearing`: what an aggregator makes of what helpers say; `aggregator` asks here
- `heard`: what a helper knows of tasks, folded from the aggregator's journal
- `keys`: what an aggregator keeps of the keys of epochs, and of co-signatures
- `helper`: whether a helper answers for a round; its own state is the fold of what it has said
"""
