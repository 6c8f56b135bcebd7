"""Why compiled code hands back a group."""

from enum import Enum


class Why(Enum):
    """What happened to the group, or to the wave whose turn it is."""

    DONE = "all waves have ended"
    PAUSED = "the budget is used up"
    MISSING = "the wave has come to code that is not compiled"
    ROUND = "a round is over, and something is to be decided"
    FAULT = "an access that the page table does not allow"
