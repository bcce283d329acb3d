"""Who gets as far as a route: what stands between the open internet and everything else of a gateway.

`wire`: connections and bytes that are no request. `heads`: requests that say too much, or two things at once.
`limits`: how often an address, a device and a class may ask; `shared`: where several gateways count together.
`watching`: figures, and a line a request.
"""
