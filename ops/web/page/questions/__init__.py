"""What the views ask of the history: narrow questions to its tables of facts, each answered in milliseconds.

The tables that people ask join everything; a page that is drawn twice a second asks for what it shows. Every number
here equals the one of those tables, which the tests hold it to.

`overview`: all tasks. `running`: one task as it stands. `courses`: how it got there, version by version.
`releasing`: what its rollout has done. `apart`: whose updates stood apart. `drift`: how far answers have moved.
`position`: the moments of a slider. `happened`: events and records. `standing`: devices, ledgers, writers.
"""
