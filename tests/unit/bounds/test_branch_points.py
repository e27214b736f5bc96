"""Branching points against brute force, and the cache of their tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bounds.expression import Expr, Fn, X, call, const
from bounds.relax import branch_points
from bounds.relax.branch_points import CELLS, WINDOW, branch_point, key, read_table, split_area, write_table
from bounds.relax.catalogue import activation
from bounds.relax.scalar import scalar_function


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SUREBOUND_CACHE_DIR", str(tmp_path / "cache"))
    branch_points._table.cache_clear()
    yield
    branch_points._table.cache_clear()


@pytest.mark.parametrize("name", ["silu", "exp", "sin", "log", "relu6", "hard-swish"])
def test_nearly_as_good_as_brute_force(name: str, rng: np.random.Generator) -> None:
    """Total area over random intervals: within 5 % of 99 tried points, and better than midpoints."""
    row = activation(name)
    f = scalar_function(row.expression)
    low, high = max(-6.0, row.domain[0] + 0.1), min(6.0, row.domain[1])
    width = rng.uniform(0.5, 5.0, 40)
    l = low + rng.random(40) * (high - low - width)
    u = l + width
    points = branch_point(f, l, u)
    assert np.all((l < points) & (points < u))
    best = np.min([split_area(f, l, l + t * width, u) for t in np.linspace(0, 1, 101)[1:-1]], axis=0)
    found = split_area(f, l, points, u)
    scale = split_area(f, l, u, u)
    assert found.sum() <= 1.05 * best.sum() + 1e-6 * scale.sum()
    assert np.all(found - best <= 0.1 * scale)
    assert found.sum() < split_area(f, l, (l + u) / 2, u).sum()


def test_closed_forms() -> None:
    l, u = np.array([-1.0, -0.01, 2.0]), np.array([3.0, 5.0, 2.5])
    np.testing.assert_array_equal(branch_point(scalar_function(X**2), l, u), (l + u) / 2)
    np.testing.assert_array_equal(branch_point(scalar_function(call(Fn.ABS, X)), l, u), [0, 0, 2.25])
    assert not (branch_points.cache_folder() / "branch-points").exists()  # they need no table


def test_kinks_are_found_exactly_in_narrow_intervals() -> None:
    """Narrower than the grid's cells, and a kink that is no grid point."""
    f = scalar_function(call(Fn.MIN, call(Fn.MAX, X, const(-0.7)), const(0.3)))
    np.testing.assert_array_equal(
        branch_point(f, np.array([0.25, -5.0]), np.array([0.4, -0.69])), [0.3, -0.7]
    )


def test_outside_the_window_and_without_bounds() -> None:
    f = scalar_function(activation("silu").expression)
    lo = np.array([-100.0, -np.inf, -np.inf, 3.0, 1.0, 5.0])
    hi = np.array([-50.0, np.inf, -20.0, np.inf, 1.0, np.nextafter(5.0, 6)])
    points = branch_point(f, lo, hi)
    assert points[0] == -75 and points[1] == 0 and points[4] == 1
    assert np.all((points > lo) & (points < hi) | (hi <= np.nextafter(lo, np.inf)))
    log = scalar_function(call(Fn.LOG, X))
    assert branch_point(log, np.array(-2.0), np.array(3.0)).shape == ()
    assert float(branch_point(log, np.array(-2.0), np.array(3.0))) == 0.5


def test_tables_are_kept_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    f = scalar_function(activation("silu").expression)
    first = branch_point(f, np.array([-3.0]), np.array([2.2]))
    (file,) = (branch_points.cache_folder() / "branch-points").iterdir()
    assert file.name == f"{key(f.expression)}.bin"

    def never(_: object) -> None:
        raise AssertionError("the table is on disk")

    monkeypatch.setattr(branch_points, "build_table", never)
    branch_points._table.cache_clear()
    np.testing.assert_array_equal(branch_point(f, np.array([-3.0]), np.array([2.2])), first)


@pytest.mark.parametrize("damage", [b"", b"x", "short", "bit", "longer"])
def test_damaged_files_are_made_again(damage: bytes | str) -> None:
    f = scalar_function(activation("sigmoid").expression)
    first = branch_point(f, np.array([-3.0]), np.array([2.2]))
    (file,) = (branch_points.cache_folder() / "branch-points").iterdir()
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    bad = {"short": good[:-1], "bit": bytes(flipped), "longer": good + b"\0"}
    file.write_bytes(damage if isinstance(damage, bytes) else bad[damage])
    assert read_table(file) is None
    branch_points._table.cache_clear()
    np.testing.assert_array_equal(branch_point(f, np.array([-3.0]), np.array([2.2])), first)
    assert file.read_bytes() == good


def test_no_cache_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the folder should be: nothing can be written, everything works, nothing is left behind."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SUREBOUND_CACHE_DIR", str(tmp_path / "file"))
    f = scalar_function(activation("sigmoid").expression)
    assert -3 < branch_point(f, np.array([-3.0]), np.array([2.2]))[0] < 2.2
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    write_table(tmp_path / "file" / "table.bin", np.zeros((CELLS + 1, CELLS + 1)))


def test_keys_tell_functions_apart() -> None:
    """Shared subexpressions, constants that print alike, operands in another order."""
    close = const(1.0), const(1.0 + 2.0**-50)
    expressions: list[Expr] = [
        X + X, X * X, X**2, X - close[0], X - close[1], close[0] - X, call(Fn.SIN, X),
        call(Fn.SIN, X * close[0]),
    ]  # fmt: skip
    assert len({key(e) for e in expressions}) == len(expressions)
    assert key(call(Fn.SIN, X) + X) == key(call(Fn.SIN, X) + X)
    assert WINDOW == 8 and CELLS == 128  # part of the key's text; VERSION stands for everything else
