"""Capture, replay and minimize what a process does to an AMD GPU.

Layers, top first; imports go down only and siblings do not import one another:

    cli                                commands
    report                             views of a trace or a reduction
    minimize                           smaller traces that still fail
    replay | interpose                 events to a driver | a KFD for another process
    driver | capture                   memory, queues, programs | a KFD that records
    submitted                          packets that queues were given, launches
    devices.kfd | devices.emulated     the kernel's KFD | the emulated one
    kfd | trace                        the port and its topology | event schema and file
    isa | code                         what instructions do | code objects
    families                           facts per GPU target
    formats                            packets, registers, ioctl structs
    bits                               the Record machinery
    errors
"""

__version__ = "0.1.0"

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gputrace.capture.session import record
    from gputrace.capture.window import Part
    from gputrace.driver import open

__all__ = ["Part", "__version__", "open", "record"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: looking at a trace needs neither the driver nor a compiler.
    if name == "open":
        from gputrace.driver import open

        return open
    if name == "record":
        from gputrace.capture.session import record

        return record
    if name == "Part":
        from gputrace.capture.window import Part

        return Part
    raise AttributeError(f"module 'gputrace' has no attribute {name!r}")


if "GPUTRACE_RECORD" in os.environ:  # started by `gputrace record`
    from gputrace.capture.program import install

    install(os.environ)
