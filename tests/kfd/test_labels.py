"""Names of address ranges: the innermost counts, and what is gone is remembered."""

import random

import pytest

from gputrace.kfd.labels import Label, Labels


def made():
    labels = Labels()
    labels.put(Label(0x1000, 0x1000, "code", "objects"))
    labels.put(Label(0x1100, 0x80, "kernel", "saxpy"))
    labels.put(Label(0x4000, 0x100, "buffer", "x"))
    return labels


def test_the_innermost_range_names_an_address():
    labels = made()
    assert labels.describe(0x1110) == "kernel 'saxpy' + 0x10"
    assert labels.describe(0x1010) == "code 'objects' + 0x10"
    assert labels.kernel(0x1100) == "saxpy"
    assert labels.kernel(0x1010) == ""


def test_an_address_after_a_range_is_told_by_the_nearest_one_below():
    assert made().describe(0x4108) == "0x8 bytes after the end of buffer 'x'"
    assert made().describe(0xFFF) == ""


def test_a_name_taken_away_is_remembered_until_something_else_lies_there():
    labels = made()
    labels.put(Label(0x4000, 0x100, "buffer", ""))
    assert labels.describe(0x4010) == "buffer 'x' + 0x10, which is gone"
    labels.put(Label(0x4000, 0x20, "buffer", "y"))
    assert labels.describe(0x4010) == "buffer 'y' + 0x10"


@pytest.mark.parametrize("seed", range(5))
def test_the_range_found_is_one_that_holds_the_address_and_begins_last(seed):
    rng = random.Random(seed)
    labels, model = Labels(), {}
    for number in range(60):
        start, size = rng.randrange(400), rng.choice((1, 8, 40, 300))
        name = "" if rng.random() < 0.2 else f"n{number}"
        labels.put(Label(start, size, "buffer", name))
        model.pop(start, None)
        if name:
            model[start] = Label(start, size, "buffer", name)
        for address in range(0, 720, 7):
            around = [one for one in model.values() if one.holds(address)]
            expected = max(around, key=lambda one: one.address, default=None)
            assert labels.at(address) == expected
            if expected is not None and address == expected.address:
                assert labels.short(address) == expected.name
    assert labels.short(5000) == "0x1388"
