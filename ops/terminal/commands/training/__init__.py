"""Commands that train; each is registered in `ops.terminal.cli`.

`new`: projects. `task`: tasks. `policy`: a policy file in full.
`model`: versions and their files. `device`: one device. `fleet`: many simulated ones.
`evaluate`: scores of versions. `measure`: scores of a version by its devices; `measured` writes them.
`run`: all of it in one command. `demo`: all of it once, with a kill.
`progress`: what `device` and `fleet` tell of their devices.
"""
