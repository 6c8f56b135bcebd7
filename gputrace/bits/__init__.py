"""Declare a format once: a record is one little-endian integer cut into named fields.

A packet, a register, an ioctl argument, a kernel descriptor and an instruction word are all
declared as a `Record` with `bits`, `u32`, `u64` and their kin. Encoder, decoder, validator,
printers, random values and the manual derive from that declaration and from nothing else.
"""

from gputrace.bits.field import Field, Role, Tail, bits, s32, s64, tail, u8, u16, u32, u64
from gputrace.bits.record import Record

__all__ = [
    "Field",
    "Record",
    "Role",
    "Tail",
    "bits",
    "s32",
    "s64",
    "tail",
    "u8",
    "u16",
    "u32",
    "u64",
]
