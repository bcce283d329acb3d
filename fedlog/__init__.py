"""fedlog for people's own code and notebooks: the only package of fedlog that they import.

Importing it loads nothing heavy, because data callables import it in every device's process.

- `rehearsal`: a policy trained on this machine alone, in seconds, without a broker; the templates' tests use it.
- `data`: data sets without downloads, and how they are split over devices.
"""
