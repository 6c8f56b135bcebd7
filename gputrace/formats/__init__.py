"""Declare all that crosses the boundary: packets, registers, ioctl structs, descriptors.

Each declaration is a `gputrace.bits.Record` with its source; encoder, decoder, validator, printers
and the manual's tables derive from it.
"""
