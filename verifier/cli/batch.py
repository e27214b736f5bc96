"""``verify batch``: a list of queries, in parallel, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bounds.errors import BadInput
from bounds.threads import cores
from verifier.cli.codes import Exit
from verifier.cli.options import INPUT_FILE, OUTPUT, check_output, make_options, query_options, write_text

if TYPE_CHECKING:
    from verifier.cli.instances import Instance
    from verifier.cli.pool import Outcome, Pool, Task
    from verifier.cli.results import Result


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go; None for nowhere."""

    csv: Path | None = None
    json: Path | None = None
    vnncomp: Path | None = None
    certificates: Path | None = None


@click.command("batch")
@click.argument("instances_csv", metavar="INSTANCES.csv", type=INPUT_FILE)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that the list's paths start from.  [default: the list's own]",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: the number of cores]"
)
@query_options("timeout", "semantics", "seed", "max_domains", "memory")
@click.option("--filter", "pattern", metavar="REGEX", help="Only instances whose 'onnx,vnnlib' it matches.")
@click.option("--out", type=OUTPUT, help="CSV that gets one line as soon as an instance is done.")
@click.option("--resume", is_flag=True, help="Skip the instances that --out holds already.")
@click.option("--json", "json_file", type=OUTPUT, help="Write all reports as JSON.")
@click.option("--results-txt", type=OUTPUT, help="Folder for VNN-COMP result files, one an instance.")
@click.option("--certificates", type=OUTPUT, help="Folder for certificates, one an instance.")
def batch(
    instances_csv: Path,
    root: Path | None,
    jobs: int | None,
    pattern: str | None,
    resume: bool,
    **values: Any,
) -> int:
    """Decide every instance of INSTANCES.csv, whose lines are onnx,vnnlib,timeout.

    Paths start from the list's folder; files may be gzipped, and may be listed without .gz. A header
    line is allowed; a column 'expected' is compared with the verdicts, a column 'family' names a
    folder. --timeout replaces the list's own limits; --memory is for each process. An instance that
    fails or crashes is marked 'error' and the batch goes on. One line for each result goes to
    standard output, the summary to standard error. Exit code: 0 when all were run, 2 when any is an
    error or contradicts its expected verdict, 130 when interrupted (--resume continues).
    """
    from verifier.cli.instances import read_instances
    from verifier.cli.pool import Pool
    from verifier.cli.results import read_done
    from verifier.search.memory import LEAST, SHARE, free_memory

    outputs = Outputs(*(values.pop(k) for k in ("out", "json_file", "results_txt", "certificates")))
    timeout = make_options(values).timeout
    instances = read_instances(instances_csv, root=root, timeout=timeout, pattern=pattern)
    check_outputs(outputs, instances_csv, resume=resume)
    done = read_done(outputs.csv, instances, outputs.json) if resume and outputs.csv else []
    count = jobs or cores()
    if values["memory"] is None:  # what is free is shared out between the processes
        values["memory"] = max(int(free_memory() * SHARE) // count, LEAST)
    with Pool(count) as pool:
        return Batch(instances, done, outputs, values).run(pool)


def check_outputs(outputs: Outputs, listing: Path, *, resume: bool) -> None:
    """Refuses outputs that cannot be written, before any work; makes the folders.

    Raises:
        BadInput: with the flag that named it.
    """
    check_output(outputs.csv, flag="--out", inputs=(listing,))
    check_output(outputs.json, flag="--json", inputs=(listing,))
    if resume and outputs.csv is None:
        raise BadInput("--resume: needs --out, the results file to continue")
    if outputs.csv is not None and not resume and outputs.csv.is_file() and outputs.csv.stat().st_size:
        raise BadInput(f"--out {outputs.csv}: holds results; add --resume to continue it, or remove it")
    for flag, folder in (("--results-txt", outputs.vnncomp), ("--certificates", outputs.certificates)):
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BadInput(f"{flag} {folder}: cannot be made a folder ({error.strerror})") from None


class Batch:
    """One run over a list: hands out what is open, records what comes back."""

    def __init__(
        self,
        instances: Sequence[Instance],
        done: Sequence[Result],
        outputs: Outputs,
        options: dict[str, Any],
    ) -> None:
        """Prepares.

        Args:
            instances: the whole list.
            done: results that an earlier run recorded.
            outputs: where results go; the CSV holds ``done`` already.
            options: keyword arguments of ``Options``, the semantics by its word.
        """
        from verifier.cli.display import Display

        self._all = instances
        self._results = list(done)
        self._outputs = outputs
        self._options = options
        self._display = Display(len(instances), len(done))
        self._expected = any(i.expected for i in instances)

    def run(self, pool: Pool) -> int:
        """Runs what is open and writes every output; returns the exit code."""
        from verifier.cli.display import summary
        from verifier.cli.results import ResultsCsv, batch_json
        from verifier.cli.session import Interrupt
        from verifier.report.emit.json import dumps

        csv = ResultsCsv(self._outputs.csv) if self._outputs.csv else None
        interrupt = Interrupt()
        try:
            with interrupt, self._display:
                self._work(pool, csv, interrupt)
        finally:  # also when a second interrupt, or a defect, ends the loop: nothing known is lost
            if csv is not None:
                csv.close()
            complete = len(self._results) == len(self._all)
            if self._outputs.json is not None:
                document = batch_json(self._results, complete=complete, with_expected=self._expected)
                write_text(self._outputs.json, dumps(document))
            click.echo(summary(self._results, len(self._all), with_expected=self._expected), err=True)
        if interrupt():
            return interrupt.exit_code
        bad = any(r.wrong or r.verdict == "error" for r in self._results)
        return Exit.FAILED if bad else Exit.ANSWERED

    def _work(self, pool: Pool, csv: Any, interrupt: Any) -> None:
        from verifier.cli.pool import Outcome

        finished = {r.instance.number for r in self._results}
        todo: list[tuple[Instance, Task]] = []
        for instance in self._all:
            if instance.number in finished:
                continue
            try:
                todo.append((instance, self._task(instance)))
            except BadInput as error:
                self._record(instance, Outcome("error", 0.0, note=str(error)), csv)
        for event in pool.run([task for _, task in todo]):
            if event is not None:
                instance = todo[event.key][0]
                if event.outcome is not None:
                    self._record(instance, event.outcome, csv)
                elif event.progress is not None:
                    self._display.progressed(instance, event.progress)
                else:
                    self._display.started(instance)
            if interrupt():
                return

    def _task(self, instance: Instance) -> Task:
        from verifier.cli.pool import Task

        model, spec = instance.files()
        folder = self._outputs.certificates
        certificate = "" if folder is None else str(folder / f"{instance.stem}.sbcert")
        return Task(str(model), str(spec), {**self._options, "timeout": instance.timeout}, certificate)

    def _record(self, instance: Instance, outcome: Outcome, csv: Any) -> None:
        from verifier.cli.results import Result, write_vnncomp

        report = outcome.report
        result = Result(
            instance,
            outcome.verdict,
            outcome.seconds,
            report["stats"]["domains"] if report else 0,
            report["semantics"] if report else self._options.get("semantics") or "",
            (report["certificate"] or "") if report else "",
            outcome.note,
            report,
            outcome.assignment,
        )
        self._results.append(result)
        if self._outputs.vnncomp is not None:
            write_vnncomp(self._outputs.vnncomp, result)
        if csv is not None:  # last: a line here tells --resume that all of the instance is saved
            csv.add(result)
        self._display.finished(result)
