"""What lies between a gateway and the log: appends, and what is followed there.

`appending`: what requests bring, appended together, and the breaker before it. `following`: the threads that read.
`catalogue`: what the log says about tasks and versions. `standing`: who is revoked, and what a certificate is worth.
`board`: answers, for whoever waits for one. `holding`: the bytes of an upload, in memory or on disk.
"""
