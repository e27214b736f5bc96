"""How much memory is free, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_operand_search import hard

from bounds.errors import BadInput
from verifier import Options, api, verify
from verifier.search.budget import Budget
from verifier.search.memory import free_memory, in_words
from verifier.verdict import Status, UnknownReason

MB = 1 << 20


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = "MemTotal:  9999999 kB\nMemAvailable:  8388608 kB\n"  # 8 GiB


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    assert free_memory(machine(tmp_path, {"proc/meminfo": MEMINFO})) == 8 << 30


def test_the_narrowest_group_counts(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/a/b/"
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/a/b\n",
        group + "memory.max": "max\n",
        group + "memory.current": "1\n",
        "sys/fs/cgroup/a/memory.max": f"{100 * MB}\n",
        "sys/fs/cgroup/a/memory.current": f"{60 * MB}\n",
        "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {10 * MB}\n",
    }
    assert free_memory(machine(tmp_path, files)) == 50 * MB


def test_groups_of_version_1(tmp_path: Path) -> None:
    """Inside a container the path is the host's, and the files lie at the base."""
    base = "sys/fs/cgroup/memory/"
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/abc\n",
        base + "memory.limit_in_bytes": f"{64 * MB}\n",
        base + "memory.usage_in_bytes": f"{70 * MB}\n",
    }
    assert free_memory(machine(tmp_path, files)) == 0


def test_too_little_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = hard(tmp_path, "Relu", 0.4)

    def no_work(*_: object, **__: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(api, "compare_with_onnxruntime", no_work)
    monkeypatch.setattr(api, "bytes_for_one", lambda *_, **__: 37 * MB)
    with pytest.raises(BadInput, match=r"--memory is 1024K, .* takes about 37M; give at least --memory 74M"):
        verify(*query, options=Options(memory=MB))


def test_little_memory_means_small_blocks() -> None:
    budget = Budget()
    budget.share_memory(8 * MB, MB)
    assert budget.block == 2
    assert budget.allowed(100, 0) == 2
    assert budget.memory == 6 * MB
    assert budget.inner(5).allowed(100, 4) == 1
    assert budget.inner(5).exhausted(0, 6 * MB + 1) is UnknownReason.MEMORY
    budget.share_memory(MB, MB)
    assert budget.block == 1


def test_a_small_budget_still_proves(tmp_path: Path) -> None:
    assert verify(*hard(tmp_path, "Relu", 0.4), options=Options(memory=MB)).status is Status.UNSAT


@pytest.mark.parametrize(("size", "words"), [(500, "500"), (1500, "2K"), (37 * MB, "37M"), (12 << 30, "12G")])
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words
