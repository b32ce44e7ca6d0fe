"""How long every stage of a frame takes on this machine.

`measuring` plays a source, `results` is what comes of it and is kept as JSON, `comparing` sets two of them side by
side, and `tables` shows them.
"""
