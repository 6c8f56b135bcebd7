"""Emulated GPUs: the kernel's KFD semantics, memory, engines and a scheduler, all in this process.

The engines (`command`, `architected`, `copies`) are generators that yield effects (`effects`) and
touch nothing themselves; `queue` carries the effects out on the memory of one GPU (`memory`), and
`kernels` runs the waves that they launch; `scheduler` decides who goes next; `device` is the port.
What the kernel does is in `buffers`, `queues`, `events`, `misc` and `sharing`. When something goes
wrong, `troubles` says what stopped a queue, and `hangs` who waits for whom, by reading `ahead`.
Nothing here knows the driver: packets are decoded by their declarations.
"""

from gputrace.devices.emulated.device import BUDGET, EmulatedKfd

__all__ = ["BUDGET", "EmulatedKfd"]
