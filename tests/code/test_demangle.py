"""Symbols in the words of people, beside what c++filt says of them."""

import shutil
import subprocess

import pytest

from gputrace.code.demangle import demangled, function_name

NAMES = {
    "saxpy": "saxpy",
    "_Z5saxpyIfEvT_PKS0_PS0_": "saxpy",
    "_ZN2ns5saxpyEPf": "ns::saxpy",
    "_ZN12_GLOBAL__N_16kernelEPi": "(anonymous namespace)::kernel",
    "_ZN12_GLOBAL__N_16kernelIfEEvPi": "(anonymous namespace)::kernel",
    "_ZN1AIiE3runILi3EEEvPFvvE": "A::run",
    "_ZN1AclEi": "A::operator",
    "_Z9x": "_Z9x",
    "_Z": "_Z",
    "": "",
    "the code at 0x1000": "the code at 0x1000",
}


@pytest.mark.parametrize("symbol", NAMES)
def test_the_name_of_a_function_has_no_types(symbol: str) -> None:
    assert function_name(symbol) == NAMES[symbol]


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="no c++filt of binutils")
def test_symbols_read_as_binutils_reads_them() -> None:
    done = subprocess.run(["c++filt", *filter(None, NAMES)], capture_output=True, text=True)
    assert [demangled(symbol) for symbol in NAMES if symbol] == done.stdout.splitlines()
