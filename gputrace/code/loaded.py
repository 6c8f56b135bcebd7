"""Read a code object back from the memory that it was loaded into."""

from gputrace.code.elf import file_from_memory
from gputrace.code.objects import CodeObject


def parse_loaded(memory: bytes) -> CodeObject:
    """Parse the image of a code object from its load address on, relocations applied or not.

    Loaders map the file's header, symbols and metadata with the code. Raises DecodeError for
    anything else, UsageError as `CodeObject.parse` does.
    """
    return CodeObject.parse(file_from_memory(memory))
