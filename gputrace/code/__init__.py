"""Code objects: what a compiler makes for a GPU, read without trusting it.

`CodeObject.parse` reads one; `unbundle` finds the one for a target in whatever file a toolchain
wrote: a bare object, an offload bundle, plain or compressed, or a host executable.
"""

from gputrace.code.bundle import Entry, entries, unbundle
from gputrace.code.elf import Segment
from gputrace.code.metadata import Argument, KernelMetadata, Metadata
from gputrace.code.objects import CodeObject, Kernel, Place

__all__ = [
    "Argument",
    "CodeObject",
    "Entry",
    "Kernel",
    "KernelMetadata",
    "Metadata",
    "Place",
    "Segment",
    "entries",
    "unbundle",
]
