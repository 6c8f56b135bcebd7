"""The meanings of all instructions that are modelled, by mnemonic without encoding suffix."""

from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_memory import MEMORY
from gputrace.isa.semantics_scalar import SCALAR
from gputrace.isa.semantics_vector import VECTOR

MEANINGS = Registry()
for _part in (SCALAR, VECTOR, MEMORY):
    for _name, _meaning in _part.meanings.items():
        MEANINGS.add(_name, _meaning)
