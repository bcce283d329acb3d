"""Commands of the server: `serve` runs it, `token` lets people in; `gateway` runs that of devices.

`subscribe` tells other services what is published; `rollout` says which version is to be used, and lets the operator
order it.
`subscribe` tells other services what is published.
`archive` writes versions into a folder or an object store.
"""
