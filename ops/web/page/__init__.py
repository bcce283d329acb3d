"""The page: what people see of the history in a browser.

`routes`: its routes, put at `/` by `ops.web.app`.
"""
