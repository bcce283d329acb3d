"""What the devices of one population may spend over all of its tasks, where the operator has set a budget for them.

- `budgets`: what a device has spent, and whether there is room for once more. Selector and aggregator ask it.
- `settings`: which budgets and which tasks are taken. The aggregator asks it.
- `charging`: whether a proposal's account of the busiest device can be true. The privacy budget asks it.
"""
