"""LLVM as a service: text of a module in, object code out, object code in, addresses out."""

import hashlib
from functools import cache
from itertools import count
from typing import Any

import llvmlite
import llvmlite.binding as llvm

_NEEDED = ("avx2", "fma", "f16c")


@cache
def _features() -> dict[str, bool]:
    return dict(llvm.get_host_cpu_features())


def usable() -> bool:
    """Return whether this processor has what compiled code needs: AVX2, FMA and F16C."""
    return all(_features().get(name, False) for name in _NEEDED)


def vector_words() -> int:
    """Return how many 32-bit words a vector of this processor has."""
    return 16 if _features().get("avx512f") else 8


@cache
def identity() -> bytes:
    """Return a digest of everything besides the module that object code depends on."""
    version = ".".join(str(part) for part in llvm.llvm_version_info)
    features = ",".join(sorted(name for name, on in _features().items() if on))
    text = f"{llvmlite.__version__} {version} {llvm.get_host_cpu_name()} {features}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


@cache
def _machine(level: int) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = ",".join(f"{'+' if on else '-'}{name}" for name, on in _features().items())
    if _features().get("avx512f"):
        features += ",-prefer-no-gather,-prefer-256-bit"
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=level, reloc="pic", codemodel="small"
    )


def compile_module(text: str, level: int = 1, optimise: bool = False) -> bytes:
    """Compile a module to an object; RuntimeError says what LLVM does not accept."""
    machine = _machine(level)
    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    if optimise:
        builder.getModulePassManager().run(module, builder)
    elif level:
        passes = llvm.create_new_module_pass_manager()
        passes.add_instruction_combine_pass()
        passes.run(module, builder)
    code: bytes = machine.emit_object(module)
    return code


def assembly(text: str, level: int = 1) -> str:
    """Return the host's assembly of a module, for people."""
    listing: str = _machine(level).emit_assembly(llvm.parse_assembly(text))
    return listing


class Loader:
    """Loads objects into this process; what it loaded stays as long as the loader."""

    def __init__(self) -> None:
        self._jit = llvm.create_lljit_compiler(_machine(1))
        self._kept: list[Any] = []
        self._numbers = count()

    def load(
        self, code: bytes, names: tuple[str, ...], imports: dict[str, int]
    ) -> dict[str, int]:
        """Load an object and return the addresses of its symbols; imports are given by name."""
        builder = llvm.JITLibraryBuilder().add_object_img(code)
        for name, address in imports.items():
            builder.import_symbol(name, address)
        for name in names:
            builder.export_symbol(name)
        library = builder.add_current_process().link(self._jit, f"object{next(self._numbers)}")
        self._kept.append(library)
        return {name: library[name] for name in names}
