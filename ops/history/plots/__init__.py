"""Pictures of the history: `fedlog plot`, and what `fedlog compare` draws. Only `figures` knows matplotlib.

`series`: the numbers of a picture, asked of the tables; called by the commands and by `compare`.
`figures`: draws them, in the colours of light or dark pages.
"""
