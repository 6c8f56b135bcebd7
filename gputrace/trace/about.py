"""What a header says about the machine, for readers; a stranger may have written anything there."""

from typing import Any

from gputrace.trace.events import Header

VERSIONS = ("driver", "kernel", "kfd")
"""Names under which a header's `device` holds versions; older traces hold none."""
UNWRITTEN = "reads of memory that nobody has written: not every store before them is known"
"""What a replay with check=bytes cannot check where `Header.knows_writes` does not hold."""
_FIRMWARE = {"fw_version": "MEC", "sdma_fw_version": "SDMA"}
_SHOWN = ("name", "gpus", "gpu_ids", *VERSIONS)


def versions(header: Header) -> dict[str, str]:
    """Return the versions of what served the device, by name."""
    found = {name: header.device.get(name) for name in VERSIONS}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def firmware(header: Header) -> dict[str, list[int]]:
    """Return the firmware versions of the GPUs by engine, each version once."""
    found: dict[str, list[int]] = {}
    for properties in header.topology.values():
        if not isinstance(properties, dict) or not properties.get("gfx_target_version"):
            continue
        for name, engine in _FIRMWARE.items():
            value = properties.get(name)
            if isinstance(value, int) and value not in found.setdefault(engine, []):
                found[engine].append(value)
    return found


def device_line(header: Header) -> str:
    """Return family and name of the device, and whatever else is said about it, on one line."""
    device = header.device
    parts = [str(device.get("name", "?"))]
    gpus = device.get("gpus", 1)
    if gpus != 1:
        parts.append(f"{gpus} GPUs")
    parts += [f"{name} {_plain(device[name])}" for name in sorted(device) if name not in _SHOWN]
    return f"{header.family or '?'}: {', '.join(parts)}"


def versions_line(header: Header) -> str:
    """Return versions of driver, interface, kernel and firmware on one line, or that none is."""
    told = versions(header)
    texts = [told[name] for name in ("driver", "kernel") if name in told]
    if "kfd" in told:
        texts.append(f"KFD {told['kfd']}")
    engines = firmware(header)
    if engines:
        texts.append("firmware " + " ".join(f"{k} {_listed(v)}" for k, v in engines.items()))
    return ", ".join(texts) or "not stated"


def _listed(values: list[int]) -> str:
    return "/".join(map(str, values))


def _plain(value: Any) -> str:
    return " ".join(str(value).split())
