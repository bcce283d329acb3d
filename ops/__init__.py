"""What people run: the console, services, and the processes that keep actors alive. May import everything of ours.

Inside, imports point down this list (`.importlinter` holds it):

    terminal              the commands of `fedlog`
    virtual               a run in one process by virtual time
    services, processes   what runs for long: evaluator; supervisor, embedded broker, demo
    doctor                what is wrong with a deployment
    operator, audit       what an operator does; what an auditor checks
    history               read models, and records as lines

and below them these modules:

`opening`: opens the log that a command works on; called by the commands.
`settings`: options and environment variables as one value; called by the console's root, read by all above.
`console`: prints results and progress; called by terminal and processes alone, never by what an API would call too.
`log_catalogue`: every event that a log line may name; held against the source by a test.
`request_books`: the figures of a server about its requests; for API and gateway alike.
`logging_setup`: sets up structured logging; called by `opening` and by each worker.
`doors`: who gets in at the brokers, and what for: rights, quotas, certificates of our own.
`broker_state`: which embedded broker runs on a folder; called by `settings` and by the broker that writes it.
"""
