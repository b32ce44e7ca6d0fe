"""The command line and what it shows.

`cli` builds the parser from `verbs`, one file a verb, and runs one. What verbs share is in `arguments` and `terminal`;
what is too much for a verb's own file has a room of its own: `demo`, `bench`, `doctor`. `machine` is shared by the last
two.
"""
