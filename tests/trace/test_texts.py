"""Texts are found wherever a trace holds bytes, and code is not taken for text."""

from pathlib import Path

from gputrace.trace import TraceReader
from gputrace.trace import events as ev
from gputrace.trace.texts import texts
from gputrace.trace.writer import TraceWriter


def test_texts_are_found_in_all_bytes_of_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    payload = ev.Payload("x", 1, b"/home/alice/in", b"/home/alice/out")
    with TraceWriter(path, ev.Header("test")) as writer:
        writer.memory(0x1000, b"\1\2small text\0", "cpu")
        writer.memory(0x10000, bytes(50_000) + b"/srv/large.cl" + bytes(9), "cpu")
        writer.memory(0x90000, bytes(50_000) + b"/srv/large.cl" + bytes(9), "unknown")
        writer.digest(0x20000, bytes(100) + b"result text\n", store=True)
        writer.digest(0x30000, b"not in the file", store=False)
        writer.append(ev.HostStore(0x40000, b"stored text"))
        writer.append(ev.Ioctl("kfd", "", 0, b"", b"", 0, (payload,), b"attributes of"))
        writer.memory(0x50000, bytes.fromhex("0000803f7e02047e000081bf") * 20, "cpu")  # code
        writer.memory(0x60000, b"$%&()*+,;<=>?@[]^{|}~" * 3, "cpu")
    with TraceReader(path) as reader:
        assert texts(reader) == {
            "small text", "/srv/large.cl", "result text", "stored text", "/home/alice/in",
            "/home/alice/out", "attributes of",
        }  # fmt: skip
