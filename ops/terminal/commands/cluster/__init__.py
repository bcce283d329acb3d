"""Commands that run a cluster; each is registered in `ops.terminal.cli`.

`broker`: the embedded Kafka. `key`: the operator's key. `topics`: the topics. `worker`: an actor, kept alive.
"""
