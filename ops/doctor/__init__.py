"""What is wrong with a deployment, and what to do about it; `fedlog doctor` and `fedlog status` print it.

Everything is looked at once; checks are pure functions of what was found, and know no broker, disk or clock.

`findings`: what is wrong, how bad that is, and the remedy; made by `checks`.
`facts`: what was seen of the cluster and of this machine, as plain values; filled by `gathering`, read by `checks`.
`gathering`: looks at the cluster, the journals and the history; called by the commands.
`local`: looks at files, disks and certificates of this machine; called by `gathering`.
`tails`: follows the newest records of journals along their chains; called by `gathering`.
`exposition`: findings as metrics in a file; called by `fedlog doctor`.
`watch`: looks again and again, and shows figures and findings; run by `fedlog serve`.
`checks/`: one module a family of faults.
"""
