"""Commands of the server: `serve` runs it, `token` lets people in; `gateway` runs that of devices.

`archive` writes versions into a folder or an object store.
"""
