"""The commands: each file asks the layers below, prints, and exits; none decides anything.

A command is a module with a click command named `command`, listed in `main.COMMANDS` with the line
that `gputrace --help` shows, so that help need not import it. Every command takes `--json`
(`common.json_option`). Errors are raised as `GputraceError`; `main` prints them as one line and
exits with status 2.
"""
