"""How good a network is: on labelled video through the whole SDK, and on measured clips while it is trained."""
