"""Commands of the service: found by the program through the entry-point group ``surebound.commands``.

Nothing heavy is imported here, as the program loads it to list its commands.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bounds.errors import BadInput

if TYPE_CHECKING:
    from service.client import RemoteJob
    from service.settings import Settings

_SERVER = click.option("--server", metavar="URL", help="The server.  [default: $SUREBOUND_SERVER]")
_DATA = click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Folder of the database and the files."
)
_DATABASE = click.option("--database", metavar="URL", help="SQLAlchemy URL; not given: SQLite in --data.")


def settings_of(**given: Any) -> Settings:
    """Settings from arguments; what is None comes from the environment or the defaults.

    Raises:
        BadInput: something is out of range, or a package of the extra is missing.
    """
    try:
        from pydantic import ValidationError

        from service.settings import Settings
    except ImportError as error:
        raise BadInput(f"the service needs {error.name}: pip install 'surebound[service]'") from None
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = "setting " + ".".join(str(p) for p in first["loc"]) if first["loc"] else "settings"
        raise BadInput(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None


@click.command("serve", short_help="Serve verification as jobs: REST, web page, local workers.")
@click.option(
    "--host", help="Address to listen on; beyond loopback, keys are required.  [default: 127.0.0.1]"
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.  [default: 8732]"
)
@_DATA
@_DATABASE
@click.option("--broker", metavar="URL", help="Redis that tells Celery workers of jobs.  [default: none]")
@click.option(
    "--slots", type=click.IntRange(0), help="Jobs at a time; 0 leaves them to 'verify worker'.  [default: 1]"
)
@click.option("--migrate", is_flag=True, help="Bring the tables of a PostgreSQL database up to date first.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def serve(migrate: bool, log_level: str, **given: Any) -> int:
    """Start the API, the web page and a local supervisor, on SQLite unless --database says otherwise.

    The address goes to standard output, logs (one JSON object a line) go to standard error. More settings are
    environment variables: docs/reference/service.md. SIGTERM ends it: open requests are finished,
    running jobs are queued again with what they know.
    """
    settings = settings_of(**given)
    from service.server import run

    return run(settings, migrate=migrate, log_level=log_level)


@click.command("worker", short_help="Work on jobs of a service, by Celery and Redis.")
@click.option("--queues", default="short,long", show_default=True, help="Which queues, separated by commas.")
@click.option("--broker", metavar="URL", help="Redis.  [default: $SUREBOUND_BROKER]")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Jobs (or batches) at a time."
)
@_DATA
@_DATABASE
def worker(queues: str, broker: str | None, processes: int, data: Path | None, database: str | None) -> int:
    """Work on queued jobs of the service whose --database and --data are shared with this host.

    SIGTERM gives running jobs back with what they know.
    """
    settings = settings_of(data=data, database=database, broker=broker)
    from service.server import work

    return work(settings, [q.strip() for q in queues.split(",") if q.strip()], processes)


@click.group("keys", short_help="Make, list and revoke keys of the service.")
def keys() -> None:
    """Keys of the service, in its database."""


@keys.command("create")
@click.option("--tenant", required=True, help="Whose jobs the key sees.")
@click.option(
    "--scopes", default="jobs:read,jobs:write", show_default=True,
    help="jobs:read, jobs:write, metrics:read, admin.",
)  # fmt: skip
@click.option("--note", default="", help="For whoever lists keys.")
@click.option("--migrate", is_flag=True, help="Make or update the tables of a PostgreSQL database first.")
@_DATA
@_DATABASE
def keys_create(
    tenant: str, scopes: str, note: str, migrate: bool, data: Path | None, database: str | None
) -> int:
    """Make a key. It is printed once and kept as a digest only."""
    settings = settings_of(data=data, database=database)
    from service.auth import create_key
    from service.server import open_all

    store, _ = open_all(settings, migrate=migrate or None)
    wanted = frozenset(s.strip() for s in scopes.split(",") if s.strip())
    click.echo(create_key(store, tenant, wanted, note=note, now=time.time()))
    return 0


@keys.command("list")
@_DATA
@_DATABASE
def keys_list(data: Path | None, database: str | None) -> int:
    """List keys: id, tenant, scopes, whether revoked, last use, note."""
    settings = settings_of(data=data, database=database)
    from service.server import open_all
    from service.views import moment

    store, _ = open_all(settings)
    for key in store.keys():  # noqa: SIM118 - no mapping
        used = moment(key.last_used) or "never"
        state = "revoked" if key.revoked else "valid"
        click.echo(
            f"{key.id}  {key.tenant}  {','.join(sorted(key.scopes))}  {state}  used {used}  {key.note}"
        )
    return 0


@keys.command("revoke")
@click.argument("id")
@_DATA
@_DATABASE
def keys_revoke(id: str, data: Path | None, database: str | None) -> int:
    """Revoke the key ID (the part between 'sb_' and the second underscore)."""
    settings = settings_of(data=data, database=database)
    from service.server import open_all

    store, _ = open_all(settings)
    if not store.revoke_key(id):
        raise BadInput(f"there is no valid key '{id}'; 'verify keys list' shows them")
    click.echo(f"revoked {id}")
    return 0


@click.command("submit", short_help="Submit a job to a service.")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("property", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_SERVER
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds that the job may take.")
@click.option("--semantics", type=click.Choice(["real", "float32"]), default="real", show_default=True)
@click.option(
    "--shards",
    type=click.IntRange(0),
    help="Workers that a long search is dealt out to; 0: none.  [default: those that are idle]",
)
@click.option("--fresh", is_flag=True, help="Do not take an earlier answer to the same question.")
@click.option("--wait", "wait_", is_flag=True, help="Wait for the end.")
def submit(  # noqa: PLR0913 - one argument for each option of the command
    model: Path,
    property: Path,
    server: str | None,
    timeout: float | None,
    semantics: str,
    shards: int | None,
    fresh: bool,
    wait_: bool,
) -> int:
    """Upload MODEL if needed, ask for PROPERTY, print the job's id (with --wait: its verdict, see 'wait').

    The key, where one is needed, is taken from $SUREBOUND_KEY.
    """
    from service.client import from_environment

    client = from_environment(server)
    limits: dict[str, Any] = {} if timeout is None else {"timeout_s": timeout}
    options: dict[str, Any] = {"semantics": semantics} | ({} if shards is None else {"shards": shards})
    job = client.verify(model, property, options=options, fresh=fresh, **limits)
    if not wait_:
        click.echo(job.id)
        return 0
    click.echo(f"job {job.id}", err=True)
    return _tell(client.wait(job.id))


@click.command("status", short_help="Show a job of a service.")
@click.argument("job")
@_SERVER
@click.option("--json", "as_json", is_flag=True, help="The whole document.")
def status(job: str, server: str | None, as_json: bool) -> int:
    """Print the state of JOB and, when it is finished, its verdict."""
    from service.client import from_environment

    found = from_environment(server).status(job)
    if as_json:
        click.echo(json.dumps(found.document, indent=2))
    else:
        click.echo(f"{found.state} {found.verdict}" if found.verdict else found.state)
    return 0


@click.command("wait", short_help="Wait for a job of a service.")
@click.argument("job")
@_SERVER
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), help="Seconds to wait.  [default: no limit]"
)
def wait(job: str, server: str | None, timeout: float | None) -> int:
    """Wait for the end of JOB, also over lost connections, and print its verdict.

    The first line of standard output is 'verified', 'falsified' or 'unknown'; of a job that failed or was
    cancelled, or that has not ended in time, the state. Exit code: 0 when a verdict was printed, otherwise 2.
    """
    from service.client import from_environment

    return _tell(from_environment(server).wait(job, timeout))


@click.command("fetch", short_help="Download what a job of a service left.")
@click.argument("job")
@click.argument("name")
@_SERVER
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: NAME]"
)
def fetch(job: str, name: str, server: str | None, out: Path | None) -> int:
    """Download NAME of JOB: certificate, witness, result, report.{json,sarif,xml,html}."""
    from service.client import from_environment

    click.echo(from_environment(server).fetch(job, name, out or Path(Path(name).name)))
    return 0


def _tell(job: RemoteJob) -> int:
    click.echo(job.verdict or job.state)
    for line in (job.reason, job.error):
        if line:
            click.echo(f"    {line}", err=True)
    return 0 if job.verdict else 2
