"""The views: each a pure function of a moment of the history and of what the address asks for.

`overview`: all tasks. `task`: one of them. `version`: one version. `events`: what happened, and one record. `devices`:
all, and one. `watching/`: who was set apart, and what has moved. `privacy`: budgets and ledger. `system`: who writes
what, and what is wrong. `gone`: the same while no history answers. `login`: where a token is asked for. `parts`: what
several views show alike. `tables`: answers of the history as tables.
"""
