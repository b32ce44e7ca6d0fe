"""What this machine has, what is missing or wrong, and the command that gets it.

Needs the standard library only, and nothing here raises. Libraries are loaded by child processes under a time limit
(`children`), so that one which is broken, crashes or hangs becomes a line; whatever a look at the machine (`evidence`)
stumbles over becomes one too. `software`, `gpu`, `tensorrt` and `board` hold the probes, each of which makes a finding;
`examination` makes a `diagnosis` of them all, and `lines` shows it.
"""
