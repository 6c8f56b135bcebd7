"""Versions of the kernel and of its driver, as this machine states them.

Sources: Linux kernel/module/sysfs.c (version and srcversion of a module), uname(2). The driver of
the kernel's own tree has no version of its own: there the kernel's says which it is. A driver that
was installed beside it (amdgpu-dkms) states one.
"""

import os
from pathlib import Path

MODULE = Path("/sys/module/amdgpu")
_LONGEST = 100


def kernel_versions(module: Path = MODULE) -> dict[str, str]:
    """Return "kernel", and "driver" where the module of the driver states a version."""
    system = os.uname()
    found = {"kernel": f"{system.sysname} {system.release}"}
    for name, prefix in (("version", ""), ("srcversion", "srcversion ")):
        try:
            text = (module / name).read_text(errors="replace").strip()[:_LONGEST]
        except OSError:
            continue
        if text:
            found["driver"] = f"{module.name} {prefix}{text}"
            break
    return found
