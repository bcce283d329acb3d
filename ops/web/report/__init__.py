"""The report of a task: one page in one file, for people who were not there. Called by `fedlog report`.

`suppression`: which sizes of groups may be shown. `questions`: what the history is asked. `verdict`: what a full replay
finds, as the page says it. `statement`: what is promised on privacy. `page`: all of it as HTML, with style of its own.
"""
