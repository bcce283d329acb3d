"""Local learning: data, models and training, all of which a policy or an option can replace by a plugin.

May import `schemas`; torch and scikit-learn each have their importers here.

- `learner`: what a device asks of the code that trains; `client_agent.setting` names it.
- `classification`: training and evaluation with torch; called by the device, `fedlog task create` and the evaluator.
- `models`: models that come along, named in policies.
- `data`: loading of examples by a data plugin; called by `running/` and the evaluator.
- `examples`: data that comes along, named in options.
- `allow_list`: what of the code that the log names may run here; called by devices and the evaluator.
- `plugins`: the callable behind a name `module:callable`; called wherever a policy or an option names one.
"""
