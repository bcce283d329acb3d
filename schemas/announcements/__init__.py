"""The topic `published` as its subscribers read it: typed, believed for signatures alone, and described for programs.

* `forms`: what the data of each kind of announcement hold.
* `reading`: a record becomes an announcement, or is refused with a reason; what was told before shows.
* `asyncapi`: the topic as AsyncAPI 3, generated from the forms; `docs/asyncapi.json` is its copy.
"""
