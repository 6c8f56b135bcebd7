"""The state in which the waves of a dispatch begin: which groups, which registers.

Source: LLVM, AMDGPUUsage.rst, "Initial Kernel Execution State"; the order of user and system SGPRs
is that of its tables.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gputrace.families import Family
from gputrace.isa import state
from gputrace.isa.decode import TARGETS
from gputrace.isa.launch import Dimensions, KernelLaunch, Words
from gputrace.isa.trace import Mode
from gputrace.isa.waves import INITIAL_VECTORS, Group, Spare, Wave, aligned


@dataclass(frozen=True, slots=True)
class PlaceWords:
    """Which scalar words hold a group's place: -1 for none; y and z may share one."""

    x: int
    y: int
    z: int


class Initial:
    """Makes the groups of one launch."""

    def __init__(self, launch: KernelLaunch, family: Family) -> None:
        self.launch = launch
        self._family = family
        self._templates: dict[Dimensions, Words] = {}
        self.place_words = self._find_place_words()

    def again(self, launch: KernelLaunch) -> None:
        """Make the groups of another launch from now on, which differs in its user data only."""
        self.launch = launch
        for words in self._templates.values():
            words[:, : len(launch.user_data)] = launch.user_data

    @property
    def mode(self) -> Mode:
        """How code of the launch is to be understood."""
        launch = self.launch
        return Mode(
            wave_size=launch.wave_size,
            float_mode=_float_mode(launch.rsrc1),
            zero_high=self._family.has_agprs,
            lds_aperture=launch.lds_aperture,
            scratch_aperture=launch.scratch_aperture,
            behaviour=TARGETS[launch.target][0].behaviour,
            half_limit=bool(launch.rsrc1 >> 26 & 1),
            lds_checked=launch.lds_checked,
        )

    @property
    def groups(self) -> int:
        """How many groups there are."""
        x, y, z = self.launch.groups
        return x * y * z

    def place(self, number: int) -> Dimensions:
        """Return the place of a group by its number: they start in this order, x runs fastest."""
        (x, y, _), first = self.launch.groups, self.launch.first_group
        return first[0] + number % x, first[1] + number // x % y, first[2] + number // (x * y)

    def number(self, place: Dimensions) -> int:
        """Return the number of the group at a place."""
        x, y, z = (at - first for at, first in zip(place, self.launch.first_group, strict=True))
        return x + self.launch.groups[0] * (y + self.launch.groups[1] * z)

    def size_of(self, place: Dimensions) -> Dimensions:
        """Return the work-items of a group on each axis."""
        launch = self.launch
        sizes = [
            launch.partial[axis]
            if launch.partial[axis] and place[axis] == launch.first_group[axis] + count - 1
            else launch.group_size[axis]
            for axis, count in enumerate(launch.groups)
        ]
        return sizes[0], sizes[1], sizes[2]

    def same_size_after(self, place: Dimensions) -> int:
        """Return how many groups that follow a place in the order have its size for certain."""
        if self.launch.partial == (0, 0, 0):
            return self.groups - 1 - self.number(place)
        whole = self.launch.groups[0] - (self.launch.partial[0] != 0)
        return max(0, whole - 1 - (place[0] - self.launch.first_group[0]))

    def waves_of(self, size: Dimensions) -> int:
        """Return the number of waves of a group of this size."""
        return -(-size[0] * size[1] * size[2] // self.launch.wave_size)

    def group(self, place: Dimensions, slot: int, spare: Spare) -> Group:
        """Start a group whose waves use scratch from wave slot `slot` on."""
        template = self.template(self.size_of(place))
        shape = len(template), self.launch.wave_size, self.launch.lds_bytes
        group = spare.take(*shape)
        if group is None:
            group = Group(place, *shape)
        else:
            group.stand_at(place)
        group.words[:, : template.shape[1]] = template
        self.put_place(group.words, place)
        if slot:
            for wave in group.waves:
                self._put_scratch(wave, slot + wave.number)
        group.records[:, 1] = self.launch.entry
        return group

    def put_place(self, words: Words, place: Dimensions) -> None:
        """Write a group's place into the registers of its waves."""
        at = self.place_words
        if at.x >= 0:
            words[:, at.x] = place[0]
        if at.y == at.z:
            if at.y >= 0:
                words[:, at.y] = place[1] | place[2] << 16
            return
        if at.y >= 0:
            words[:, at.y] = place[1]
        if at.z >= 0:
            words[:, at.z] = place[2]

    def template(self, size: Dimensions) -> Words:
        """Return the first registers of all waves of a group of this size, its place left out.

        All other registers are zero: there are INITIAL_VECTORS vector registers in a row.
        """
        if size not in self._templates:
            count, lanes = self.waves_of(size), self.launch.wave_size
            row = state.SCALARS + INITIAL_VECTORS * lanes
            words: Words = aligned(count * row, np.uint32).reshape(count, row)
            for number in range(count):
                wave = Wave(number, words[number], np.zeros(4, np.uint64), lanes)
                self._begin(wave, size, count)
            self._templates[size] = words
        return self._templates[size]

    def _begin(self, wave: Wave, size: Dimensions, count: int) -> None:
        launch, lanes = self.launch, self.launch.wave_size
        ids = np.arange(lanes, dtype=np.uint32) + np.uint32(wave.number * lanes)
        active = ids < size[0] * size[1] * size[2]
        mask = int.from_bytes(np.packbits(active, bitorder="little").tobytes(), "little")
        wave.scalars[state.EXEC] = mask & 0xFFFFFFFF
        wave.scalars[state.EXEC + 1] = mask >> 32
        self._put_sequencer(wave, count)
        self._put_item_ids(wave, ids, size)
        wave.scalars[: len(launch.user_data)] = launch.user_data
        self._put_system(wave, count)

    def _put_sequencer(self, wave: Wave, count: int) -> None:
        # MODE beyond what instructions look at; STATUS: in a group of waves, valid, 64 lanes.
        launch = self.launch
        wave.scalars[state.MODE] = (launch.rsrc2 >> 24 & 0x7F) << 12
        wide = launch.wave_size == 64 and len(self._family.waves) > 1
        wave.scalars[state.STATUS] = (count > 1) << 11 | 1 << 16 | wide << 29

    def _put_item_ids(self, wave: Wave, ids: NDArray[np.uint32], size: Dimensions) -> None:
        wanted = self.launch.rsrc2 >> 11 & 3
        x, y = ids % size[0], ids // size[0] % size[1]
        z = ids // (size[0] * size[1])
        if self._family.packed_work_item_ids:
            wave.vectors[0] = x | (y << 10 if wanted > 0 else 0) | (z << 20 if wanted > 1 else 0)
            return
        wave.vectors[0] = x
        if wanted > 0:
            wave.vectors[1] = y
        if wanted > 1:
            wave.vectors[2] = z

    def _find_place_words(self) -> PlaceWords:
        if self._family.work_group_ids == "ttmp":
            return PlaceWords(state.TTMP + 9, state.TTMP + 7, state.TTMP + 7)
        at, words = len(self.launch.user_data), []
        for axis in range(3):
            wanted = self.launch.rsrc2 >> (7 + axis) & 1
            words.append(at if wanted else -1)
            at += wanted
        return PlaceWords(*words)

    def _put_system(self, wave: Wave, count: int) -> None:
        launch, scalars = self.launch, wave.scalars
        at = len(launch.user_data)
        if self._family.work_group_ids == "ttmp":
            scalars[state.TTMP + 8] = wave.number << 25
        else:
            at += (launch.rsrc2 >> 7 & 7).bit_count()
        if launch.rsrc2 >> 10 & 1:
            scalars[at] = count | (1 << 31 if wave.number == 0 else 0)
        self._put_scratch(wave, wave.number)

    def _put_scratch(self, wave: Wave, slot: int) -> None:
        launch, scalars = self.launch, wave.scalars
        offset = slot % max(1, launch.scratch_waves) * launch.scratch_wave_bytes
        if self._family.flat_scratch == "absolute":
            if launch.rsrc2 & 1:
                at = len(launch.user_data) + (launch.rsrc2 >> 10 & 1)
                if self._family.work_group_ids != "ttmp":
                    at += (launch.rsrc2 >> 7 & 7).bit_count()
                scalars[at] = offset
            return
        base = launch.scratch_base + offset
        scalars[state.FLAT_SCRATCH] = base & 0xFFFFFFFF
        scalars[state.FLAT_SCRATCH + 1] = base >> 32


def _float_mode(rsrc1: int) -> int:
    # MODE as a kernel begins (LLVM: AMDGPUUsage, compute_pgm_rsrc1): rounding and denormals, then
    # DX10_CLAMP and IEEE.
    return rsrc1 >> 12 & 0xFF | (rsrc1 >> 21 & 1) << 8 | (rsrc1 >> 23 & 1) << 9
