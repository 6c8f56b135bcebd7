"""`gputrace devices`: list real and emulated devices with their facts."""

from collections.abc import Iterator
from typing import Any

import click

from gputrace.cli.common import amount, json_option, show
from gputrace.devices.names import FALLBACK
from gputrace.errors import UsageError
from gputrace.families import FAMILIES, Family, by_target_version
from gputrace.isa.decode import TARGETS
from gputrace.kfd.topology import SYSFS, Node, read_topology


@click.command("devices")
@json_option
def command(as_json: bool) -> None:
    """List the GPUs of this machine and the ones that can be emulated."""
    real, reason = _real()
    data = {
        "real": real,
        "why_no_real": reason,
        "emulated": [_emulated(one) for one in FAMILIES.values()],
        "default": "kfd:0" if real else FALLBACK,
    }
    show(as_json, data, _lines(data))


def _real() -> tuple[list[dict[str, Any]], str]:
    try:
        gpus = read_topology(SYSFS).gpus
    except UsageError as error:
        return [], str(error)
    return [_node(index, node) for index, node in enumerate(gpus)], "" if gpus else "no GPU node"


def _node(index: int, node: Node) -> dict[str, Any]:
    try:
        known = by_target_version(node["gfx_target_version"]).name
    except UsageError:
        known = ""
    return {
        "name": f"kfd:{index}",
        "target": node.target,
        "known": bool(known),
        "product": node.name,
        "gpu_id": node.gpu_id,
        "vram": node.memory,
        "cus": node.get("simd_count") // max(1, node.get("simd_per_cu", 1)),
        "xccs": node.xccs,
        "wave": node.get("wave_front_size"),
        "sdma_engines": node.get("num_sdma_engines"),
        "xgmi_engines": node.get("num_sdma_xgmi_engines"),
        "render_minor": node.render_minor,
        "firmware": node.get("fw_version"),
        "properties": dict(node.properties),
    }


def _emulated(one: Family) -> dict[str, Any]:
    return {
        "name": f"emu:{one.name}",
        "target": one.name,
        "product": one.card.product,
        "vram": one.card.vram_bytes,
        "cus": one.shape.cus * one.shape.xccs,
        "xccs": one.xccs,
        "wave": one.wave,
        "waves": list(one.waves),
        "pm4": one.pm4.name,
        "sdma": one.sdma.name,
        "sdma_engines": one.copies.pcie,
        "xgmi_engines": one.copies.xgmi,
        "lds": one.lds_bytes,
        "kernels": one.name in TARGETS,
        "captured": one.card.captured,
    }


def _lines(data: dict[str, Any]) -> Iterator[str]:
    yield "real"
    for one in data["real"]:
        unknown = "" if one["known"] else "; gputrace has no facts about this target"
        yield f"  {_facts(one)}, /dev/dri/renderD{one['render_minor']}{unknown}"
    if data["why_no_real"]:
        yield f"  none: {data['why_no_real']}"
    yield "emulated"
    for one in data["emulated"]:
        runs = "kernels run" if one["kernels"] else "packets only: no instruction tables"
        yield f"  {_facts(one)}, {one['pm4']}, {one['sdma']}, {runs}"
    yield f"default: {data['default']}"
    yield "more: emu:gfx942x2 (two that are peers), emu:gfx942,vram=8G,check=bytes,schedule=3"


def _facts(one: dict[str, Any]) -> str:
    engines = one["sdma_engines"] + one["xgmi_engines"]
    dies = f" on {one['xccs']} XCCs" if one["xccs"] > 1 else ""
    return (
        f"{one['name']:<11} {one['target']:<8} {one['product']:<22} {amount(one['vram'])} VRAM, "
        f"{one['cus']} CUs{dies}, wave{one['wave']}, {engines} SDMA engines"
    )
