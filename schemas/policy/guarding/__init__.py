"""What a policy asks for against devices that do harm, and against data that move.

`schemas.policy.sections` and `schemas.policy.checks` ask here.

* `quarantine`: the table [quarantine], and with what it cannot hold together.
* `drift`: the table [drift], and what it needs of [measure].
"""
