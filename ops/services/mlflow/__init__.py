"""Versions of fedlog as versions of registered models in MLflow: for `fedlog mlflow`.

* `entries`: what the log says of each version that is published, and what its rollout has decided.
* `wording`: the same in the words of MLflow: params, metrics, tags, files.
* `registering`: brings a server up to that, whatever was done already, and by whomever.
* `keeping`: follows the log, and waits for what is away.
* `server`: what of a server is used; the only importer of its client.
"""
