"""Buckets of tokens."""

from __future__ import annotations

from service.rates import KEPT, Buckets


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_a_steady_rate() -> None:
    clock = Clock()
    buckets = Buckets(2.0, 3, clock)
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("b") == 0.0  # everybody has a bucket
    clock.now += 0.25
    assert buckets.take("a") == 0.25  # to ask in vain costs nothing
    clock.now += 0.25
    assert buckets.take("a") == 0.0 and buckets.take("a") == 0.5
    clock.now += 1000.0
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_without_a_rate_nothing_is_limited() -> None:
    assert [Buckets(0.0, 1).take("a") for _ in range(3)] == [0.0, 0.0, 0.0]


def test_only_so_many_buckets_are_kept() -> None:
    clock = Clock()
    buckets = Buckets(1.0, 1, clock)
    for i in range(KEPT + 5):
        buckets.take(str(i))
    assert len(buckets._held) == KEPT
    assert buckets.take(str(KEPT + 4)) == 1.0 and buckets.take("0") == 0.0
