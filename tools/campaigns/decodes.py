"""Random dwords through every packet dialect: a packet or the declared error, and no bit is lost.

The count is for each dialect. Of the headers, half are made to look like one of a known packet.
"""

import random
import struct
from typing import Any

from gputrace.errors import DecodeError
from gputrace.formats import aql, pm4, sdma
from gputrace.formats.packets import Dialect
from tools.campaigns import Campaign

COUNT, SAMPLE = 1_000_000, 20_000
BATCH = 4096


def words(dialect: Dialect[Any], rng: random.Random, count: int) -> list[int]:
    """Make dwords of which about half of the headers name a packet of the dialect."""
    made = list(struct.unpack(f"<{count}I", rng.randbytes(4 * count)))
    layouts = dialect.all
    at = 0
    while at < count:
        if rng.random() < 0.5:
            layout = rng.choice(layouts)
            made[at] = layout.random(rng).encode()[0]
            at += layout.WORDS
        else:
            at += 1
    return made


def run(campaign: Campaign) -> None:
    """Decode batches in turn until each dialect has had its count of dwords."""
    dialects = [*pm4.DIALECTS, *sdma.DIALECTS]
    for first in range(0, campaign.count, BATCH):
        size = min(BATCH, campaign.count - first)
        for dialect in dialects:
            rng = random.Random(f"{campaign.seed} {dialect.name} {first}")
            _packets(campaign, dialect, words(dialect, rng, size), f"batch {first}")
        _slots(campaign, random.Random(f"{campaign.seed} AQL {first}"), size // 16)
        campaign.step(size)
    campaign.facts["dialects"] = len(dialects) + 1


def _packets(campaign: Campaign, dialect: Dialect[Any], given: list[int], what: str) -> None:
    at = 0
    while at < len(given):
        try:
            packet = dialect.decode(given, at)
            encoded = packet.encode()
            size = packet.dwords
            packet.line()
        except DecodeError:
            at += 1
            continue
        except Exception as error:  # noqa: BLE001 - any other error is what is looked for
            campaign.fail(f"{dialect.name}, {what}, dword {at}: {error!r}")
            return
        if encoded != given[at : at + size]:
            campaign.fail(f"{dialect.name}, {what}, dword {at}: encodes to other bits")
        at += size


def _slots(campaign: Campaign, rng: random.Random, count: int) -> None:
    for number in range(count):
        raw = bytearray(rng.randbytes(aql.PACKET_BYTES))
        if rng.random() < 0.9:
            raw[0] = rng.randrange(6)
            raw[2] = rng.randrange(4) if raw[0] == 0 else raw[2]
        try:
            packet = aql.decode_packet(raw)
            if packet.to_bytes() != raw:
                campaign.fail(f"AQL slot {number}: encodes to other bits")
            packet.line()
        except DecodeError:
            pass
        except Exception as error:  # noqa: BLE001 - any other error is what is looked for
            campaign.fail(f"AQL slot {number}: {error!r}")
            return
