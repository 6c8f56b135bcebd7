"""Facts per GPU target: values only, so that nobody else compares families or versions.

`family("gfx942")` gives a `Family`; ask it for the fact (`family.wave`, `family.flat_scratch`).
"""

from collections.abc import Mapping
from types import MappingProxyType

from gputrace.errors import UsageError
from gputrace.families.cdna import GFX90A, GFX942, GFX950
from gputrace.families.family import (
    Caches,
    Card,
    Copies,
    Family,
    IpVersions,
    RegisterFile,
    Shape,
)
from gputrace.families.queues import QueueSizes, SaveArea
from gputrace.families.rdna import GFX1030, GFX1100, GFX1201

__all__ = [
    "FAMILIES",
    "Caches",
    "Card",
    "Copies",
    "Family",
    "IpVersions",
    "QueueSizes",
    "RegisterFile",
    "SaveArea",
    "Shape",
    "by_target_version",
    "family",
]

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {found.name: found for found in (GFX90A, GFX942, GFX950, GFX1030, GFX1100, GFX1201)}
)
"""The families that gputrace knows, by LLVM name, oldest first."""


def family(name: str) -> Family:
    """Find a family by its LLVM name; raises UsageError that lists the known ones."""
    found = FAMILIES.get(name)
    if found is None:
        raise UsageError(f"unknown GPU target {name!r}; known are {', '.join(FAMILIES)}")
    return found


def by_target_version(version: int) -> Family:
    """Find a family by a node's gfx_target_version; raises UsageError when there is none."""
    for found in FAMILIES.values():
        if found.target_version == version:
            return found
    known = ", ".join(f"{found.target_version} ({found.name})" for found in FAMILIES.values())
    raise UsageError(f"no facts about gfx_target_version {version}; known are {known}")
