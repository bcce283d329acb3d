"""Commands of the server: `serve` runs it, `token` lets people in; `gateway` runs that of devices.

`subscribe` tells other services what is published, `mlflow` registers it, and `archive` writes it into a folder or an
object store. `rollout` says which version is to be used, and lets the operator order it.
"""
