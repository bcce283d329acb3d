"""Who gets as far as a route: what stands between the open internet and everything else of a gateway.

`wire`: connections and bytes that are no request. `heads`: requests that say too much, or two things at once.
"""
