"""Questions to the fleet: a device's answer to a task of kind "measure", and the questions that come with fedlog.

- `answers`: a question at work on one task; `running.work` opens it, `Device` calls it as it does a learner.
- `questions`: the plugins that a policy may name as `measure.plugin` without anybody's leave.
- `arguments`: whether devices can answer what a policy asks of them. `ops.operator.measurements` asks it, at creation.
"""
