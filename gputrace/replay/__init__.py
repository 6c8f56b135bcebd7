"""Replay: the events of a trace, done again on a device, with a verdict at the end.

`names` turns recorded handles into live ones, `player` does the events again, `verdict` says what
came of it. `scrub` writes a trace without what is private and sees that it ends as before.
"""
