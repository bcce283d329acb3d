"""The log's own doors: who gets in at the brokers, and what for. Prints nothing.

`rights`: the table, what each principal may do on the brokers, and its quota.
`comparing`: what a cluster allows beside the table; pure.
`keeping`: applies the table to a cluster, and checks it; run by `fedlog acl`.
`secured`: settings, certificate and passwords of an embedded broker behind doors; asked by `ops.processes.broker`.
`knocking`: whether an embedded broker answers.
`authority`: certificates of our own, for gateway, server and secure broker; run by `fedlog ca`.
"""
