"""What devices learn: learners in any framework, named arrays, data, and what of it may run here.

May import `schemas`; torch and scikit-learn each have their importers here.

- `learner`: what a learner is: four methods, arrays by name, and a context. Users write their own against it.
- `opening`: the learner behind a policy, at work on one task; called by `running/` and the evaluator.
- `trainer`: what a device asks for under a lease; `client_agent.setting` names it.
- `layout`: between named arrays and the flat vectors of the log; called by `opening`.
- `state`: what a learner remembers on a device, as bytes; called by `device` for its outbox.
- `foreign`: calls of a user's code, whatever it does; called wherever a plugin runs.
- `sources`: the digest of the code behind a policy; called by `fedlog task create`, devices and the evaluator.
- `pytorch/`: the learner that serves where a policy names none.
- `flower/`: Flower apps as learners, in a process of Flower's own environment.
- `measuring/`: a device's answer to a task of kind "measure".
- `models`: torch models that come along, named in policies.
- `data`: the part of the data that a device has, and the plugin that reads it; called by learners.
- `examples`: data that come along, named in policies and options.
- `allow_list`: what of the code that the log names may run here; called by devices and the evaluator.
- `plugins`: the callable behind a name `module:callable`; called wherever a policy or an option names one.
"""
