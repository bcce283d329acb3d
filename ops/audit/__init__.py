"""Checks of what the log holds, for anybody who has the log or an export. May import `actors`, which it recomputes.

Prints nothing.

`findings`: what checks find, and how much was looked at.
`chains`: follows the chain of one journal; called by `verification` and `export`.
`verification`: checks chains, what journals say of one another, and signed heads; called by `fedlog verify`.
`announcements`: compares `published` with the journal; called by `replay`.
`replay`: folds every journal and checks each event; called by `fedlog replay`.
`event_checks`: what single events must agree with; called by `replay`.
`ancestry`: recounts what the tasks before a task have spent; called by `replay`.
`recomputing`: makes sums and models again from the bodies; called by `replay`.
`spot_check`: recomputes one version; called by the page.
`journal_states`: a state before and after one record; called by the page.
`receipts`: what proves the outcome of one update; called by `fedlog receipt`.
`outliers/`: devices whose updates are unlike the others'; called by `fedlog devices --outliers`.
`export`: an export that agrees with itself; called by `fedlog export-log`.
"""
