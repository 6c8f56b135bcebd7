"""Which engine a queue gets."""

from gputrace.devices.emulated.architected import PacketProcessor
from gputrace.devices.emulated.command import CommandProcessor
from gputrace.devices.emulated.copies import CopyEngine
from gputrace.devices.emulated.dispatch import Dispatcher
from gputrace.devices.emulated.effects import Engine
from gputrace.families import Family
from gputrace.formats.aql import PACKET_BYTES
from gputrace.formats.ioctl import CreateQueue, QueueType


def make_engine(family: Family, record: CreateQueue, ring_size: int, first: int = 0) -> Engine:
    """Return the engine of a queue that is about to be made; `first` is the packet it begins at."""
    if record.queue_type not in (QueueType.COMPUTE, QueueType.COMPUTE_AQL):
        return CopyEngine(family).ring()
    architected = record.queue_type == QueueType.COMPUTE_AQL
    xccs = family.xccs if architected or family.pm4_queue_spans_xccs else 1
    dispatcher = Dispatcher(family)
    eop = architected or record.eop_buffer_address != 0
    commands = CommandProcessor(family.pm4, dispatcher, xccs=xccs, eop=eop)
    if not architected:
        return commands.ring()
    ring = record.ring_base_address, ring_size // PACKET_BYTES
    pointer = record.read_pointer_address
    processor = PacketProcessor(family, dispatcher, commands, ring, pointer)
    processor._index = first
    return processor.ring()
