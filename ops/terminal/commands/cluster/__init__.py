"""Commands that run a cluster; each is registered in `ops.terminal.cli`.

`broker`: the embedded Kafka. `key`: the operator's key. `ca`: certificates of our own. `topics`: the topics.
`acl`: who may read and write what on the brokers. `worker`: an actor, kept alive.
`helper`: takes masks off the sums of masked tasks.
`enrol`: who takes part where a policy asks for enrolled devices; tokens, revocations, and forgetting.
"""
