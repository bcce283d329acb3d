"""What a policy asks for against devices that do harm. `schemas.policy.sections` and `schemas.policy.checks` ask here.

* `quarantine`: the table [quarantine], and with what it cannot hold together.
"""
