"""`fedlog serve`: the API and the page, over the history and what an operator does. Needs the extra `serve`.

`app`: puts it together. `serving`: listens and runs it. `site`: what every route may use.
`keeping`, `reading`: the history, whoever writes it. `changes`: wakes all open streams when it moves.
`reaching`: whether the log answers. `levels`: what the history says of the service, as metrics.
`access/`: who is let in, and how often. `callers`: who asks, and what they may.
`evidence`: what is proven from the log itself, and not told.
`operating`: changes in the name of a caller. `problems`: errors as an API tells them.
`api/`: the routes under `/api/v1`. `page/`: what people see.
`report/`: a task as one file, for whoever was not there.
"""
