"""The meanings of all instructions that are modelled, by mnemonic without encoding suffix."""

from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_atomics import ATOMICS
from gputrace.isa.semantics_buffer import BUFFER
from gputrace.isa.semantics_compare import COMPARE
from gputrace.isa.semantics_convert import CONVERT
from gputrace.isa.semantics_divide import DIVIDE
from gputrace.isa.semantics_dot import DOT
from gputrace.isa.semantics_float import FLOAT
from gputrace.isa.semantics_flow import FLOW
from gputrace.isa.semantics_lanes import LANES
from gputrace.isa.semantics_lds import LDS
from gputrace.isa.semantics_matrix import MATRIX
from gputrace.isa.semantics_memory import MEMORY
from gputrace.isa.semantics_narrow import NARROW
from gputrace.isa.semantics_packed import PACKED
from gputrace.isa.semantics_registers import REGISTERS
from gputrace.isa.semantics_relative import RELATIVE
from gputrace.isa.semantics_scalar import SCALAR
from gputrace.isa.semantics_scalar_float import SCALAR_FLOAT
from gputrace.isa.semantics_scaled import SCALED
from gputrace.isa.semantics_smem import SMEM
from gputrace.isa.semantics_special import SPECIAL
from gputrace.isa.semantics_staged import STAGED
from gputrace.isa.semantics_typed import TYPED
from gputrace.isa.semantics_vector import VECTOR

MEANINGS = Registry()
_PARTS = (
    SCALAR, SCALAR_FLOAT, VECTOR, FLOAT, DIVIDE, COMPARE, PACKED, MATRIX, LANES, MEMORY, BUFFER,
    CONVERT, RELATIVE, REGISTERS, LDS, SMEM, ATOMICS, FLOW, STAGED, TYPED, DOT, NARROW, SCALED,
    SPECIAL,
)  # fmt: skip
for _part in _PARTS:
    for _name, _meaning in _part.meanings.items():
        MEANINGS.add(_name, _meaning)
