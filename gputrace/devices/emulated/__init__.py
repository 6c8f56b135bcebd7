"""Emulated GPUs: the kernel's KFD semantics, memory, engines and a scheduler, all in this process.

The engines are generators that yield effects (`effects`) and touch nothing themselves; `queue`
carries the effects out on the memory of one GPU; `scheduler` decides who goes next; `device` is the
port. Nothing here knows the driver: packets are decoded by their declarations.
"""

from gputrace.devices.emulated.device import BUDGET, EmulatedKfd

__all__ = ["BUDGET", "EmulatedKfd"]
