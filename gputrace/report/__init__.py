"""Views of a trace: text, HTML, JSON Lines, a timeline. None needs a device or a compiler.

`walk` turns a trace into items in their order; `text`, `html`, `jsonl` and `timeline` write them
down, `difference` compares those of two traces, `counts` counts them.
"""
