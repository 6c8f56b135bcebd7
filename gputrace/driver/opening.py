"""Opening a device by name."""

import os
import sys

from gputrace.devices.names import FALLBACK, parse_name
from gputrace.devices.opening import REAL_NODE, make_device
from gputrace.driver.device import Device, open_kfd
from gputrace.errors import UsageError
from gputrace.kfd.port import Kfd


def open(device: str | Kfd | None = None) -> Device:
    """Open a device: by name, on a port that the caller made, or the best there is.

    Without a name it is what the environment calls GPUTRACE_DEVICE, or the real GPU when this
    machine has one, else "emu:gfx942"; the choice is printed. Raises UsageError for a name that
    means nothing, KfdError when the kernel refuses.
    """
    if device is None:
        best = "kfd:0" if REAL_NODE.exists() else FALLBACK
        device = os.environ.get("GPUTRACE_DEVICE") or best
        print(f"gputrace: using {device}", file=sys.stderr)
    if not isinstance(device, str):
        if not hasattr(device, "topology"):
            raise UsageError(f"open: expected a name such as {FALLBACK}, or a Kfd, not {device!r}")
        return open_kfd(device)
    name = parse_name(device)
    return open_kfd(make_device(device), name.index if name.scheme == "kfd" else 0)
