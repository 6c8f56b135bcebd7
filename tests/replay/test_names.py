"""Renaming by roles, over real ioctl records."""

from random import Random

import pytest

from gputrace.errors import Divergence
from gputrace.formats import ioctl
from gputrace.replay.names import Names, check_outputs


def test_a_handle_made_in_the_recording_is_followed_until_it_is_freed() -> None:
    names = Names()
    asked = ioctl.AllocMemoryOfGpu(
        va_addr=0x1000, size=4096, gpu_id=7, flags=ioctl.AllocFlag.VRAM, handle=5
    )
    names.learn(asked, asked.replace(handle=9))
    mapped = ioctl.MapMemoryToGpu(handle=5, device_ids_array_ptr=0, n_devices=1)
    assert names.translate(mapped) == mapped.replace(handle=9)
    names.learn(ioctl.FreeMemoryOfGpu(handle=5), ioctl.FreeMemoryOfGpu(handle=9))
    assert names.translate(mapped) is mapped


def test_queues_and_events_with_the_same_number_are_not_mixed_up() -> None:
    names = Names()
    names.bind("queue", 3, 8)
    assert names.translate(ioctl.DestroyQueue(queue_id=3)).queue_id == 8
    assert names.translate(ioctl.DestroyEvent(event_id=3)).event_id == 3


@pytest.mark.parametrize("record", ioctl.BY_RECORD, ids=lambda record: record.__name__)
def test_without_names_every_record_stays_as_it_is(record: type) -> None:
    value = record.random(Random(1))
    assert Names().translate(value) is value
    check_outputs("call", value, value)


def test_an_output_that_is_no_name_must_come_again() -> None:
    said = ioctl.GetVersion(major_version=1, minor_version=17)
    with pytest.raises(Divergence, match=r"GetVersion.minor_version: recorded 17, observed 14"):
        check_outputs("GetVersion", said, said.replace(minor_version=14))
