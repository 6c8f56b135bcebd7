"""LLVM's disassembler of one target, by its C API: what the tables come from, and a witness."""

import ctypes
import os
import re

LIBRARY, NEWER = "libLLVM.so.19.1", "libLLVM.so.22.1"
_NEW_TARGETS = ("gfx950",)
"""What the older library aborts the process for."""
_SDWA, _COMPARE, _RESERVED = 0xF9, 0b0111110, 7
_LAST_VECTOR, _LONGER = 255, 12
_SCALES, _F8F6F4, _LITERAL = 0xD3AC, (0xD3AD, 0xD3AE), 0xFF


def library_of(target: str) -> str:
    """Return the oldest of both libraries that knows a target."""
    return NEWER if target in _NEW_TARGETS else LIBRARY


class Disassembler:
    """LLVM's, for one target; raises OSError when the library is missing.

    The newer LLVM is told to take halves of registers as operands of the short encodings (for gfx11
    it does so by itself).
    """

    def __init__(self, target: str, wave: int, library: str = LIBRARY) -> None:
        # Bound to its own symbols: two versions in one process would share them otherwise.
        loaded = ctypes.CDLL(library, mode=os.RTLD_DEEPBIND | os.RTLD_LOCAL)
        for part in ("TargetInfo", "TargetMC", "Disassembler"):
            getattr(loaded, f"LLVMInitializeAMDGPU{part}")()
        create, self._run = loaded.LLVMCreateDisasmCPUFeatures, loaded.LLVMDisasmInstruction
        create.restype, self._run.restype = ctypes.c_void_p, ctypes.c_size_t
        text, pointer, size = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
        create.argtypes = [text, text, text, pointer, ctypes.c_int, pointer, pointer]
        self._run.argtypes = [pointer, text, ctypes.c_uint64, ctypes.c_uint64, text, size]
        halves = ",+real-true16" if library == NEWER and not target.startswith("gfx9") else ""
        features = f"+wavefrontsize{wave}{halves}".encode()
        self._context = create(b"amdgcn-amd-amdhsa", target.encode(), features, None, 0, None, None)
        self._buffer = ctypes.create_string_buffer(4096)
        self._has_null = not target.startswith("gfx9")
        self._newer = library == NEWER
        self._buffer_size = 12 if target.startswith("gfx12") else 8

    def __call__(self, code: bytes) -> tuple[int, str]:
        """Return length and text; 0 and "" where LLVM refuses the code or marks a part of it.

        A literal as the offset of a buffer instruction has no place in the encoding, and LLVM
        prints the null register for targets that have none: both count as refused. So do LLVM 22's
        vector registers behind the last, its odd pairs of accumulators (of others it says that
        they are wrong) and its literals behind long instructions of gfx9.
        """
        size, text = self.marked(code)
        wrong = (
            "Invalid" in text
            or "is not supported" in text  # DPP controls of other generations
            or "only supports" in text
            or text.startswith(("v_illegal", "<"))
            or (size > self._buffer_size and text.startswith(("buffer_", "tbuffer_")))
            or (not self._has_null and re.search(r"\bnull\b", text))
            or "src_flat_scratch_base" in text  # of gfx1250, which LLVM 22 prints for all
            or any(int(last) > _LAST_VECTOR for last in re.findall(r"\b[va]\[\d+:(\d+)\]", text))
            or (self._newer and re.search(r"\ba\[\d*[13579]:", text))
            or (size == _LONGER and not self._has_null)
        )
        return (0, "") if wrong else (size, text)

    def marked(self, code: bytes) -> tuple[int, str]:
        """Return length and text as LLVM has them, with its marks in the text."""
        if _selects_reserved(code) or _has_wrong_factor(code):
            return 0, ""
        size = self._run(self._context, code, len(code), 0, self._buffer, 4096)
        return size, self._buffer.value.decode().strip() if size else ""


def _selects_reserved(code: bytes) -> bool:
    # Of a reserved selection LLVM 19 and 22 crash (AMDGPUInstPrinter::printSDWASel).
    word, extra = (int.from_bytes(code[at : at + 4], "little") for at in (0, 4))
    if word >> 31 or word & 0x1FF != _SDWA:
        return False
    fields = [extra >> 16 & 7, extra >> 24 & 7]
    if word >> 25 != _COMPARE:
        fields += [extra >> 8 & 7, 4 + (extra >> 11 & 3)]
    return _RESERVED in fields


def _has_wrong_factor(code: bytes) -> bool:
    # LLVM 22 crashes where a factor of an f8f6f4 product is six trap temporaries, or its scale a
    # literal: none of both can be.
    low, high = (int.from_bytes(code[at : at + 4], "little") for at in (0, 4))
    if low >> 16 == _SCALES and len(code) >= 16:
        return _LITERAL in (high & 0x1FF, high >> 9 & 0x1FF) or _has_wrong_factor(code[8:])
    return low >> 16 in _F8F6F4 and not high & high >> 9 & 0x100
