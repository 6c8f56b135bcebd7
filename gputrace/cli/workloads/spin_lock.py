"""(d) An endless loop: one wave leaves a kernel with a spin lock taken, the others spin.

Waves book amounts into one account, under a lock in memory. An amount over the limit is refused,
and the wave that refuses it forgets to unlock. The first such amount comes in the 30th launch.
"""

import numpy as np

from gputrace.cli.workloads.frame import Workload, WrongResult, load, main
from gputrace.driver import Device

LAUNCHES = 40
WAVES = 8
LIMIT = 1000
ACCOUNT = 4711  # stands behind the lock that guards it
OPENING = 100
REFUSED_LAUNCH, REFUSED_WAVE = 30, 5


def run(device: Device, seed: int) -> str:
    """Book all amounts and verify the balance after each launch."""
    random = np.random.default_rng(seed)
    kernel, queue = load(device, "account")["book"], device.compute_queue("pm4")
    lock, balance = device.alloc(8, name="lock"), device.alloc(4, name="balance")
    amounts = device.alloc(4 * WAVES, name="amounts")
    lock.write(np.array([0, ACCOUNT], np.uint32))
    balance.write(np.array([OPENING], np.uint32))
    right = OPENING
    for number in range(1, LAUNCHES + 1):
        given = random.integers(1, LIMIT, WAVES, np.uint32)
        if number == REFUSED_LAUNCH:
            given[REFUSED_WAVE] = LIMIT + 1
        amounts.write(given)
        queue.launch(kernel, grid=WAVES, block=64, args=[lock, balance, amounts, LIMIT])
        queue.synchronize(10.0)
        right += int(given[given <= LIMIT].sum())
        found = int(balance.view(np.uint32, 0, 1)[0])
        if found != right:
            raise WrongResult(f"after launch {number} the balance is {found}, not {right}")
    return f"{LAUNCHES} launches booked right"


WORKLOAD = Workload(
    name="spin_lock",
    letter="d",
    bug="A wave leaves a kernel without unlocking its spin lock; the other waves spin for ever.",
    ending="hang",
    verdict="hang",
    minimum=(
        "compute 0: SET_SH_REG of the size of a work-group",
        "compute 0: SET_SH_REG of the program's address",
        "compute 0: SET_SH_REG of its resources",
        "compute 0: SET_SH_REG of the address of its arguments",
        "compute 0: DISPATCH_DIRECT of 'book', launch 30",
    ),
    run=run,
)

if __name__ == "__main__":
    main(WORKLOAD)
