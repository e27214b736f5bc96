"""The pytest plugin: two markers, two options, a section of the summary.

Loaded at every start of pytest where surebound is installed, so it imports nothing but the standard
library and pytest; the assertions import the rest when a test asks for them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Generator, Iterator
from dataclasses import asdict
from typing import Any, Final

import pytest

from verifier.testing.settings import SETTINGS, UNDECIDED, Outcome, Run, running

PROPERTY: Final = "surebound"  # of a test's report: how outcomes travel between processes
_SLOWEST: Final = 3
_MARKERS: Final = {
    "certified": "presets for assert_certified; also makes the tests selectable with -m certified",
    "lipschitz": "presets for assert_lipschitz; also makes the tests selectable with -m lipschitz",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--surebound-timeout`` and ``--surebound-undecided``, and the same in the configuration file."""
    group = parser.getgroup("surebound", "proofs about neural networks (surebound)")
    texts = {
        "timeout": "Seconds for each sample of assert_certified, and for assert_lipschitz.  [default: 60]",
        "undecided": "What an assertion that decides nothing does: fail, skip or warn.  [default: fail]",
    }
    for name, text in texts.items():
        choices = UNDECIDED if name == "undecided" else None
        group.addoption(f"--surebound-{name}", default=None, help=text, choices=choices)
        parser.addini(f"surebound_{name}", text, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers and checks the configuration."""
    for name, text in _MARKERS.items():
        config.addinivalue_line("markers", f"{name}({', '.join(f'{s}=' for s in SETTINGS[name])}): {text}")
    _configured(config)


def _configured(config: pytest.Config) -> dict[str, Any]:
    """What options and the configuration file say; options win."""
    found: dict[str, Any] = {}
    for name in ("timeout", "undecided"):
        text = config.getoption(f"surebound_{name}") or config.getini(f"surebound_{name}")
        if text:
            found[name] = text
    if "timeout" in found:
        try:
            found["timeout"] = float(found["timeout"])
        except ValueError:
            raise pytest.UsageError(
                f"surebound_timeout is '{found['timeout']}'; give a number of seconds"
            ) from None
        if not found["timeout"] > 0:
            raise pytest.UsageError("surebound_timeout must be above 0 seconds")
    if found.get("undecided", UNDECIDED[0]) not in UNDECIDED:
        raise pytest.UsageError(
            f"surebound_undecided is '{found['undecided']}'; choose one of {', '.join(UNDECIDED)}"
        )
    return found


def _presets(item: pytest.Item) -> dict[str, dict[str, Any]]:
    """Marker -> settings: the closest marker wins over farther ones, all win over the configuration."""
    base = _configured(item.config)
    presets: dict[str, dict[str, Any]] = {}
    for name, settings in SETTINGS.items():
        chosen = dict(base)
        for marker in reversed(list(item.iter_markers(name))):
            if marker.args:
                raise pytest.UsageError(f"{item.nodeid}: marker '{name}' takes keywords only")
            for key in marker.kwargs:
                if key not in settings:
                    near = difflib.get_close_matches(key, settings, 1)
                    hint = f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(settings)}"
                    raise pytest.UsageError(f"{item.nodeid}: marker '{name}' has no setting '{key}'{hint}")
            chosen.update(marker.kwargs)
        presets[name] = chosen
    return presets


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Gives the test's assertions their presets, and takes what they found into its report."""
    with running(Run(_presets(item))) as run:
        try:
            return (yield)
        finally:
            item.user_properties.extend((PROPERTY, json.dumps(asdict(o))) for o in run.outcomes)


def _outcomes(reporter: pytest.TerminalReporter) -> Iterator[tuple[str, Outcome]]:
    """Every outcome with its test; a test's last report holds them all, its others some of them."""
    seen: dict[str, list[Outcome]] = {}
    for reports in reporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                found = [Outcome(**json.loads(str(v))) for k, v in report.user_properties if k == PROPERTY]
                if found:
                    seen[report.nodeid] = found
    for test, outcomes in seen.items():
        yield from ((test, outcome) for outcome in outcomes)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Counts, everything that is not proved, and where the time went; nothing where nothing was asserted."""
    found = list(_outcomes(terminalreporter))
    if not found:
        return
    terminalreporter.section("surebound: proofs")
    for verdict in ("falsified", "undecided"):
        for test, outcome in found:
            if outcome.verdict == verdict:
                terminalreporter.line(f"{verdict}  {test}: {outcome.claim}; {outcome.detail}")
    slowest = sorted(found, key=lambda pair: -pair[1].seconds)[:_SLOWEST]
    for test, outcome in slowest:
        terminalreporter.line(f"{outcome.seconds:8.2f} s  {test} ({outcome.assertion})")
    counts = {v: sum(o.verdict == v for _, o in found) for v in ("proved", "falsified", "undecided")}
    total = sum(o.seconds for _, o in found)
    terminalreporter.line(
        f"{len(found)} assertions: "
        + ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
        + f"; {total:.2f} s"
    )
