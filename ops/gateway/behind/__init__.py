"""What lies between a gateway and the log: appends, and what is followed there.

`appending`: what requests bring, appended together, and the breaker before it. `following`: the threads that read.
`catalogue`: what the log says about tasks and versions. `board`: answers, for whoever waits for one.
"""
