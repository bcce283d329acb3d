"""Who is let in, and how often.

`gate`: stands before every route. `tokens`: who somebody is, signed. `sessions`: a browser's log-in.
`watching`: figures for Prometheus. `limiting`: how often somebody may ask, and how much at once. `watchers`: who
follows a stream, and until when.
"""
