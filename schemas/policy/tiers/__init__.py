"""What a tier asks of the rest of a policy. `schemas.policy.checks` asks here.

* `masking`: what cannot hold together in the tier masked.
"""
