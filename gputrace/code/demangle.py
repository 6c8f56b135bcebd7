"""Names of functions as people write them, from the symbols that compilers make of them."""

import ctypes
from functools import lru_cache
from typing import Any

_UNNAMED = "(anonymous namespace)"


@lru_cache(maxsize=1)
def _library() -> Any:
    # The one that every C++ program has: __cxa_demangle of <cxxabi.h>.
    try:
        library = ctypes.CDLL("libstdc++.so.6")
    except OSError:
        return None
    library.__cxa_demangle.restype = ctypes.c_void_p
    return library


@lru_cache(maxsize=1 << 12)
def demangled(symbol: str) -> str:
    """Return a symbol in C++ words: "void f<int>(int)"; as it is when it is none of C++."""
    library = _library()
    if library is None or not symbol.startswith("_Z"):
        return symbol
    place = library.__cxa_demangle(symbol.encode(), None, None, None)
    if not place:
        return symbol
    text = ctypes.string_at(place).decode(errors="replace")
    ctypes.CDLL(None).free(ctypes.c_void_p(place))
    return text


@lru_cache(maxsize=1 << 12)
def function_name(symbol: str) -> str:
    """Return the name of a symbol's function without types: "space::f" of "void space::f<int>()".

    Template arguments, parameters and the type of the result are left out.
    """
    if not symbol.startswith("_Z"):
        return symbol
    kept, depth = "", 0
    for letter in demangled(symbol).replace(_UNNAMED, "\0"):
        if letter == "(" and not depth and kept:
            break  # the parameters
        if letter in "<(":
            depth += 1
        elif letter in ">)":
            depth -= 1
        elif not depth:
            kept += letter
    return kept.rpartition(" ")[2].replace("\0", _UNNAMED)
