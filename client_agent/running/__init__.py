"""Running devices: many in one process, many processes, or one in the foreground. The console calls it.

May import everything of `client_agent` but a transport of `links/`, and never `streams`.

- `loop`: the devices of one process, by wake times; driven by `fleet`, `foreground` and the simulation of the tests.
- `fleet`: many loops in many processes; `fedlog fleet` and the benchmarks call it.
- `plain_session`, `ray_session`: what runs these processes, for small fleets and large; the latter alone imports Ray.
- `nursery`: a process that has imported for others and forks them; `plain_session` starts its processes in it.
- `foreground`: one real device; `fedlog device` calls it.
- `interrupts`: Ctrl-C held back while processes are started or ended; `fleet` and `ops.processes` use it.
- `scratch`: folders that go with their process, however it dies; `ray_session` and runs by virtual time have one.
- `watch`: the end of trainings that do not end; `fleet` and `foreground` train under it.
- `together`: trainings of many devices made at once, ahead of them; `fleet` has them made, `loop` foresees them.
- `work`: the task of a process's devices and the learner of its policy; `fleet` and `foreground` ask for it.
- `profiles`: simulated devices, drawn from a seed; `fleet` gives them to its devices.
"""
