"""Commands that read what happened; each is registered in `ops.terminal.cli`.

`events`: the log, one line an event. `verify`: chains and signed heads. `replay`: fold and recompute everything.
`export_log`: the log as files. `query`: SQL over everything, and the file that it asks.
`explain`: what a version is made of, and how two differ. `receipt`: what became of one update, proven.
`plot`: pictures of tasks, and of where they come from. `compare`: policies trained beside each other, and drawn.
`devices`: who takes part, and how often. `trace`: where the time of rounds and updates went.
`report`: a task as one page.
"""
