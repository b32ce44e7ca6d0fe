"""One file a verb: `add` gives it its parser, `run` does it with what was parsed and returns the exit status.

A verb imports what it needs in `run`: the parser of all verbs is built for each of them, and for help.
"""
