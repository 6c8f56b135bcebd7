"""Views of a trace: as text, as JSON Lines. None of them needs a device or a compiler.

`walk` turns a trace into items in their order; `text` and `jsonl` write them down.
"""
