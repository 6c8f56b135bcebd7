"""The metadata note, from hand-made msgpack: what may be left out, what is refused."""

from typing import Any

import msgpack
import pytest

from gputrace.code.metadata import parse_metadata
from gputrace.errors import DecodeError


def note(**kernel: Any) -> bytes:
    least = {
        ".name": "k",
        ".symbol": "k.kd",
        ".kernarg_segment_size": 8,
        ".group_segment_fixed_size": 0,
        ".private_segment_fixed_size": 0,
        ".wavefront_size": 64,
        ".sgpr_count": 8,
        ".vgpr_count": 4,
    }
    changes = {f".{key}": value for key, value in kernel.items()}
    kernels = [{k: v for k, v in (least | changes).items() if v is not None}]
    return msgpack.packb({"amdhsa.version": [1, 2], "amdhsa.kernels": kernels})


def test_what_a_compiler_may_leave_out_has_a_default() -> None:
    kernel = parse_metadata(note()).kernels[0]
    assert (kernel.args, kernel.kernarg_align, kernel.max_flat_workgroup_size) == ((), 8, 1024)
    assert kernel.workgroup_processor_mode is None


def test_truth_values_may_be_integers() -> None:
    kernel = parse_metadata(note(uses_dynamic_stack=True, workgroup_processor_mode=1)).kernels[0]
    assert kernel.uses_dynamic_stack is True
    assert kernel.workgroup_processor_mode is True


def test_arguments_keep_order_and_attributes() -> None:
    args = [
        {".offset": 0, ".size": 8, ".value_kind": "global_buffer", ".is_const": True},
        {".offset": 8, ".size": 8, ".value_kind": "hidden_heap_v1", ".name": "heap"},
    ]
    kernel = parse_metadata(note(args=args)).kernels[0]
    assert [a.name for a in kernel.args] == ["", "heap"]
    assert [a.is_const for a in kernel.explicit_args] == [True]


def test_unknown_keys_are_no_error() -> None:
    assert parse_metadata(note(cluster_dims=[1, 1, 1])).kernels[0].name == "k"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "no valid msgpack"),
        (b"\xc1", "no valid msgpack"),
        (b"\x91" * 5000, "no valid msgpack"),
        (b"\xdd\xff\xff\xff\xff", "no valid msgpack"),
        (msgpack.packb({1: 2}), "no valid msgpack"),
        (msgpack.packb([]), "must be a map"),
        (msgpack.packb({"amdhsa.version": [2, 0]}), r"version \(2, 0\) is none of"),
        (msgpack.packb({"amdhsa.version": "1"}), "must be a list"),
        (msgpack.packb({"amdhsa.version": [1, 2], "amdhsa.kernels": {}}), "must be a list"),
        (msgpack.packb({"amdhsa.version": [1, 2], "amdhsa.kernels": [3]}), "must be a map"),
        (note(symbol=None), r"kernels\[0\] \.symbol: must be present"),
        (note(sgpr_count="8"), r"\.sgpr_count: must be of type int"),
        (note(sgpr_count=-1), r"\.sgpr_count: must be of type int"),
        (note(vgpr_count=1 << 40), r"\.vgpr_count: must be of type int"),
        (note(reqd_workgroup_size=[1, "x"]), r"reqd_workgroup_size item: must be of type int"),
        (note(args=[{".offset": 0, ".size": 8}]), r"\.args\[0\] \.value_kind: must be present"),
    ],
)
def test_anything_else_is_a_decode_error_that_names_the_key(raw: bytes, text: str) -> None:
    with pytest.raises(DecodeError, match=text):
        parse_metadata(raw)
