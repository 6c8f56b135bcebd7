"""The synthetic streams are the ones that the measured counts were taken on."""

import pytest
from streams import dependent, independent, nonmonotone

CHECKS = [
    (1000, [370, 423, 599, 762, 893], 1322, 1187, 39),
    (10000, [2145, 3457, 5411, 5607, 6028], 13330, 12005, 38),
]


@pytest.mark.parametrize(("n", "causes", "edges", "known", "size"), CHECKS)
def test_dependent_stream_has_its_check_values(n, causes, edges, known, size):
    stream = dependent(n, 5, 0)
    assert stream.causes == causes
    assert stream.edges == edges
    assert sum(map(len, stream.graph(0.9).needs)) == known
    assert stream.minimum.bit_count() == size


def test_independent_stream_has_its_check_values():
    assert independent(1000, 5, 0).causes == [382, 400, 565, 805, 977]


def test_nonmonotone_stream_has_its_check_values():
    stream = nonmonotone(1000, 5, 0)
    assert stream.causes == [69, 430, 649, 681, 826]
    assert sorted(stream.pairs) == [
        (28, 993), (53, 97), (96, 616), (133, 759), (162, 405),
        (417, 635), (421, 646), (441, 898), (659, 754), (684, 769),
    ]  # fmt: skip
