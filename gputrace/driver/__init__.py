"""The driver core: what a user scripts against, on steps that replay uses as they are.

`open` gives a `Device`; from it come buffers, queues and timelines. `mechanism`
holds the steps without opinion.
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
