"""The page: what people see of the history in a browser.

Each view is a pure function of the history at a position. It works without script; with it, sections are exchanged as
the history moves. Elements are typed Python (htpy), so that everything is escaped unless somebody says otherwise, and
a type checker reads the templates too.

`routes`: its routes, put at `/` by `ops.web.app`. `pages`: what all of them share. `live`: the stream of sections that
have changed. `actions`: what operators may do, each asking back once. `layout`: the frame around every view. `moment`:
the history at a position. `formats`: values as people read them. `assets_index`: style and script, by addresses that
browsers may keep. `views/`: one module a view. `questions/`: what they ask. `charts/`: what they draw. `assets/`: style
and script.
"""
