"""The tables of ``surebound.toml`` other than requirements."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from bounds.settings import key

CACHE = ".surebound/cache"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """``[models.NAME]``: a network."""

    path: str = key("", "ONNX file, relative to this file", required=True)


@dataclass(frozen=True, slots=True)
class DataEntry:
    """``[data.NAME]``: labelled samples, and the preprocessing between the file's numbers and the network.

    The network is given ``(number / scale - mean) / std``. Radii and ``clip`` are in the units of
    ``number / scale``; mean and std are folded into what is verified, exactly.
    """

    path: str = key("", "npz archive, parquet file or image folder (CLASS/*.png)", required=True)
    format: str = key(
        "auto", "how it is read; auto: by what it is", choices=("auto", "npz", "parquet", "folder")
    )
    inputs: str = key("", "array or column of inputs; empty: the first of the usual names")
    labels: str = key("", "array or column of labels; empty: the first of the usual names")
    scale: Fraction | None = key(
        None, "numbers are divided by it; not given: 255 for whole numbers of 8 bits, else 1", above=0
    )
    mean: tuple[Fraction, ...] = key(
        (), "subtracted after scaling: one number, or one per channel", single=True
    )
    std: tuple[Fraction, ...] = key(
        (), "divisor after that: one number, or one per channel", above=0, single=True
    )
    channels: str = key(
        "auto", "where the file's channels are; auto: told by the network's shape",
        choices=("auto", "first", "last"),
    )  # fmt: skip
    colours: str = key("rgb", "order in which the network takes colours", choices=("rgb", "bgr"))
    clip: tuple[Fraction, ...] = key((), "valid range of every number after scaling, as [low, high]")


@dataclass(frozen=True, slots=True)
class BudgetEntry:
    """``[budget]``: limits of a run; what they leave open is inconclusive."""

    seconds: Fraction | None = key(None, "wall clock of the whole run", above=0)
    query_seconds: Fraction | None = key(
        None, "wall clock of one question; not given: 60, or none where max_domains is given", above=0
    )
    max_domains: int | None = key(None, "subproblems of one question; repeats exactly", least=1)
    memory: int | None = key(None, "megabytes for open subproblems of one question", least=1)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """``[cache]``: where proofs are kept between runs."""

    path: str = key(CACHE, "folder, relative to this file; empty: no cache")
    megabytes: int = key(1000, "when it holds more, what was not used for longest is removed", least=1)


@dataclass(frozen=True, slots=True)
class GateEntry:
    """Keys at the top of the file."""

    version: int = key(1, "of this format", least=1, required=True)
    seed: int = key(0, "of everything random", least=0)
    baseline: str = key("surebound.lock", "lock file that 'verify gate --update-baseline' writes")
