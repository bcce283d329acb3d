"""The archive: every published version as files outside of the log, in a folder or an object store.

* `naming`: which file stands where. `contents`: what is in them. `keeping`: for how long weights stay.
* `reading`: what the log says in public of tasks and versions, as a fold.
* `stores`: what a place has to be able to do, and what can go wrong there; `folder` and `s3` are such places.
* `writing`: one version. `archivist`: brings a place up to the log. `checking`: compares the two.

Nothing of an update is in it: it is made of `tasks`, `published`, `models`, `ledger` and `evaluations` alone, and its
principal can read no other topic. `fedlog archive` calls it.
"""
