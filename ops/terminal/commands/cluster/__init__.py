"""Commands that run a cluster; each is registered in `ops.terminal.cli`.

`broker`: the embedded Kafka. `key`: the operator's key. `ca`: certificates of our own. `topics`: the topics.
`acl`: who may read and write what on the brokers. `helper`: takes masks off the sums of masked tasks.
`worker`: an actor, kept alive.
`doctor`: what is wrong with the deployment, and what to do. `status`: how it stands, on one screen.
`population`: one privacy budget over all tasks of a population.
`enrol`: who takes part where a policy asks for enrolled devices; tokens, revocations, and forgetting.
`drift`: whether what devices have has moved, by the answers of a measure task.
"""
