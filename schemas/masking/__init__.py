"""The tier masked: what devices add to their updates and helpers take off their sum. May import `schemas.sealing`.

* `ring`: exact clipping on the grid, masks from seeds, and sums modulo 2^32.
* `seeds`: what a mask is bound to, and a seed sealed to one helper.
* `statements`: what a helper says, signed and chained; readers check it against the keys that the policy names.
"""
