"""What instructions do: from the bytes of a kernel to what its waves leave in memory.

`decode` cuts words into an `instruction` and refuses by name what none may hold (`limits`); the
`semantics_*` modules say once what each does, in terms of `primitives`, and `trace` writes that
down as a `graph`. Two engines read the graphs:

- `numpy_engine` evaluates them one instruction at a time: the reference, and the cold path;
- the `jit_*` modules compile them. `jit_region` follows direct jumps from an address; `jit_emit`,
  `jit_block` and `jit_memory` write the region as LLVM IR with a wave as a vector, EXEC as a mask
  and registers in memory; `jit_words` keeps 64-bit lanes as words, `jit_chunks` makes functions of
  a few lanes of what is long; `jit_access` finds the words that instructions load and store;
  `jit_runtime`, `jit_rows` and `jit_atomics` hold helpers, `jit_driver` the loop over waves and
  groups, all in IR as well; `jit_library` and `jit_store` keep what was compiled, by its content,
  in the process and on disk.

A kernel may change its MODE: how it differs from the launch's is the upper 16 bits of its program
counter in the record of a wave (`state.CHANGE_AT`), so a change is a jump, ends the region and
leads to a program or region made for the mode; `Mode.at` is the one place that reads it.

`jit_cores` spreads work-groups over the cores of this machine where that changes nothing.

What is too much for a graph is one primitive with two readings: a matrix product (`matrix` says
what it is, `numpy_matrix` and `jit_matrix` carry it out). Arithmetic rounds as MODE says; roundings
other than to the nearest set the processor's (`numpy_floats.directed`, `jit_rounding`). What
generations do differently under one name is in `behaviour`.

`machine` gives both the same order of groups and waves. A wave can be interrupted only where it
jumps backwards or to an address in a register, a property of the code and not of the engine, so
engines may be changed on the way and a recording made with one replays with the other. Compiled
code checks every access against the ranges of memory and the size of LDS, and leaves for an address
in a register through a table: nothing that a kernel does can reach other memory of the process.
"""
