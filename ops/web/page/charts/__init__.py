"""Charts as SVG, made from numbers alone; each comes with its table, for whoever cannot see it.

`scales`: from values to places, ticks, and the frame that charts share. `lines`: curves over versions, and sparklines.
`bars`: histograms, and shares by name. `gauge`: what is left of a budget. `buffer`: the cells of a round.
`timeline`: what happened when, with idle time squeezed.
"""
