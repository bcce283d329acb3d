"""Measures of a gateway, and of what stands behind it.

`crowd`: devices that hand in updates over raw connections. `hostile`: strangers who never rest, in their own process.
`floor`: the least that a server in Python does for the same requests. `outcomes`: what an aggregator remembers of the
updates that came through it.
"""
