"""Which engine a queue gets."""

from errno import EINVAL

from gputrace.devices.emulated.command import CommandProcessor
from gputrace.devices.emulated.copies import CopyEngine
from gputrace.devices.emulated.dispatch import Dispatcher
from gputrace.devices.emulated.effects import Engine
from gputrace.errors import KfdError
from gputrace.families import Family
from gputrace.formats.ioctl import CreateQueue, QueueType


def make_engine(family: Family, record: CreateQueue) -> Engine:
    """Return the engine of a queue that is about to be made."""
    if record.queue_type == QueueType.COMPUTE:
        xccs = family.xccs if family.pm4_queue_spans_xccs else 1
        eop = record.eop_buffer_address != 0
        return CommandProcessor(family.pm4, Dispatcher(family), xccs=xccs, eop=eop).ring()
    if record.queue_type != QueueType.COMPUTE_AQL:
        return CopyEngine(family).ring()
    fields = {"queue_type": int(record.queue_type)}
    raise KfdError("CREATE_QUEUE", EINVAL, fields, "queues of this type are not modelled yet")
