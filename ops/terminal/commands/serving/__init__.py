"""Commands of the server: `serve` runs it, `token` lets people in; `gateway` runs that of devices.

`subscribe` tells other services what is published.
"""
