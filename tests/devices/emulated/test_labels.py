"""Names of address ranges: the innermost counts, and what is gone is remembered."""

from gputrace.devices.emulated.labels import Label, Labels


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
