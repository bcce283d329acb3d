"""`fedlog`, the command line. Commands parse options, call what lies below, and print; may import all of `ops`.

`cli`: the root: global options and the list of commands; the entry point of the package.
`loading`: commands by name, imported when they are asked for; `cli` holds them.
`errors`: turns errors into a message and an exit code; called by `cli`.
`options`: options that several commands share.
`reaching`: by which road devices reach their server; `fedlog device` and `fedlog fleet` take it.
`fitting`: answers of the history within a terminal's width; called by the commands that ask it.
`handing`: gives an announcement to a command of the user's; called by `fedlog subscribe`.
`completing`: names of tasks for the shell; called by the options of commands that take one.
`archive`: the tasks that this folder does not list; `fedlog task` reads and writes it.
`standing`: how tasks stand, out of the history or the log; called by the commands of tasks and models.
"""
