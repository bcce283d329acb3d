"""New projects: a folder with a policy, a model or learner, data, and a test of the score that it must reach.

- `making`: copies a template under the project's own name; called by `fedlog new`.
- `templates/`: the templates, as files that stand on their own; no package, and never imported from here.
"""
