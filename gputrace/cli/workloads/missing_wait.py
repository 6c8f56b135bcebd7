"""(e) A race: a copy runs before its producer because a wait is missing.

Frames are rendered by a compute queue into two surfaces in turn and copied out by a copy queue,
each copy waiting for its frame and each frame for the copy before it. The copy queue also logs
the time, several times a frame. After a change of the size the first frame takes another path,
which forgets the first of these waits: under some schedules the copy overtakes the renderer and
takes what the surface held before.
"""

import numpy as np

from gputrace.cli.workloads.frame import Workload, WrongResult, load, main
from gputrace.driver import Device

FRAMES = 30
RESIZED = 20
WORDS = 256
GROUP = 64
ROUNDS = 5
TIMES, TIME_BYTES = 5, 32


def rendered(number: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Return the words of a frame; see kernels/frames.cl."""
    value = np.uint32(number) * np.uint32(0x01000193) + np.arange(WORDS, dtype=np.uint32)
    for _ in range(ROUNDS):
        value = (value ^ value >> np.uint32(15)) * np.uint32(0x85EBCA6B)
    return value


def run(device: Device, seed: int) -> str:
    """Render and copy all frames, then verify them."""
    kernel = load(device, "frames")["render"]
    graphics, copies = device.compute_queue("pm4"), device.copy_queue()
    surfaces = [device.alloc(4 * WORDS, name=f"surface {n}") for n in range(2)]
    film = device.alloc(4 * WORDS * FRAMES, "gtt", name="film")
    times = device.alloc(TIME_BYTES * TIMES * FRAMES, "gtt", name="times")
    drawn, copied = device.timeline("drawn"), device.timeline("copied")
    for number in range(1, FRAMES + 1):
        surface = surfaces[number % 2]
        if number > 2:
            graphics.wait(copied.at(number - 2))
        arguments = [surface, seed + number, ROUNDS]
        graphics.launch(kernel, grid=WORDS // GROUP, block=GROUP, args=arguments)
        graphics.signal(drawn, number)
        for index in range((number - 1) * TIMES, number * TIMES):
            copies.timestamp(times, TIME_BYTES * index)
        if number != RESIZED:  # the bug: this path forgets to wait
            copies.wait(drawn.at(number))
        copies.copy(film, surface, 4 * WORDS, destination_offset=(number - 1) * 4 * WORDS)
        copies.signal(copied, number)
    copies.synchronize(10.0)
    graphics.synchronize(10.0)
    for number in range(1, FRAMES + 1):
        found = film.view(np.uint32, (number - 1) * 4 * WORDS, WORDS)
        if not np.array_equal(found, rendered(seed + number)):
            old = np.array_equal(found, rendered(seed + number - 2))
            what = f"it is frame {number - 2}" if old else "a part of it is of another frame"
            raise WrongResult(f"frame {number} was copied before it was drawn: {what}")
    return f"{FRAMES} frames are right"


WORKLOAD = Workload(
    name="missing_wait",
    letter="e",
    bug="A copy runs before its producer, under some schedules: a wait is missing.",
    ending="wrong",
    verdict="differs",
    minimum=(
        "compute 0: SET_SH_REG of the size of a work-group",
        "compute 0: SET_SH_REG of the program's address",
        "compute 0: SET_SH_REG of its resources",
        "compute 0: SET_SH_REG of the address of its arguments",
        "compute 0: DISPATCH_DIRECT of 'render', frame 20",
        "copy 0: COPY_LINEAR of its surface to the film",
    ),
    run=run,
    options=",schedule=1",
    replayed=",schedule=0",
)

if __name__ == "__main__":
    main(WORKLOAD)
