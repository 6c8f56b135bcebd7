"""The driver core: what a user scripts against, on steps that replay uses as they are.

    import gputrace, numpy as np
    with gputrace.open("emu:gfx942") as device:
        x, y = device.alloc(4096, name="x"), device.alloc(4096, name="y")
        x.write(np.arange(1024, dtype=np.float32))
        kernel = device.load("saxpy.co")["saxpy"]
        compute, copies = device.compute_queue(), device.copy_queue()
        done = compute.launch(kernel, grid=16, block=64, args=[y, x, np.float32(2), 1024])
        copies.wait(done)
        copies.copy(x, y)
        copies.signal().wait(timeout=5.0)

Order. What is submitted to one queue happens in that order: a launch starts when all before it has
ended. Between queues nothing is ordered but by waits. `launch` and `signal` give a `Point`, a value
on a `Timeline`; every kind of queue, the CPU, other GPUs and other processes can wait for it, and
store values of timelines of their own. `Signal` is what AQL's own barriers count.

Memory. A buffer has the size that was asked for and is checked against it, on the CPU and in
copies. VRAM is cached, GTT and user memory are coherent. What the CPU stored is flushed before the
next doorbell. Rings and the memory of arguments are bounded: what does not fit waits until the
engine has made room, and nothing is used again before the work that reads it has ended.

Ends. A wait ends with its value; with `DeviceFault`, which names queue, packet, submission, address
and buffer; with `ProvenHang`, when no engine can go on and no thread is left that could free one;
or with `WaitTimeout`, which says what was being executed. `close` releases everything, whatever
went wrong before.

Parts: `device` and `session` (what is shared by the GPUs of one KFD) on top of `mechanism`, the
steps without opinion; `memory`, `arena` (fixed addresses, so that recordings need not be moved);
`queue` and `ring` below `compute` (`pm4`, `aql`) and `sdma`; `program`, `kernargs`, `dispatch`,
`scratch`, `upload` for launches; `timeline`, `signals` and `waiting` for order and ends.
"""

from gputrace.driver.aql import AqlQueue
from gputrace.driver.compute import ComputeQueue
from gputrace.driver.device import Device, open_kfd
from gputrace.driver.memory import Buffer
from gputrace.driver.opening import open
from gputrace.driver.pm4 import Pm4Queue
from gputrace.driver.program import Kernel, Program
from gputrace.driver.queue import Queue
from gputrace.driver.sdma import SdmaQueue
from gputrace.driver.signals import Signal
from gputrace.driver.timeline import Point, Timeline
from gputrace.driver.waiting import ProvenHang, WaitTimeout
from gputrace.errors import DeviceFault

__all__ = [
    "AqlQueue",
    "Buffer",
    "ComputeQueue",
    "Device",
    "DeviceFault",
    "Kernel",
    "Pm4Queue",
    "Point",
    "Program",
    "ProvenHang",
    "Queue",
    "SdmaQueue",
    "Signal",
    "Timeline",
    "WaitTimeout",
    "open",
    "open_kfd",
]
