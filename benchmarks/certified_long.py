"""The long tables of certified training, one run after the other, on whatever processor time is left.

    nohup ./scripts/bench certified_long --data FOLDER --work FOLDER [--scale 0.33] &

Runs at the lowest priority. Budgets are processor seconds, so a loaded machine changes when a table is
finished and not what is in it. Every table keeps the rows it has, so a run that was stopped goes on; a lock
file in --work keeps a second driver away.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _common import ENVIRONMENT, ROOT

LOWEST = 19


def jobs(arguments: argparse.Namespace) -> list[list[str]]:
    """Command lines, in order of worth; --scale shortens the budgets in seconds."""
    mnist, cifar = str(arguments.data / "mnist.npz"), str(arguments.data / arguments.cifar)
    minutes15, hour = f"{900 * arguments.scale:g}", f"{3600 * arguments.scale:g}"
    seeds = ["--seeds", *(str(s) for s in arguments.seeds)]
    cayley = ["--layers", "cayley", "--activations", "householder", *seeds]
    name = f"certified_mnist_{minutes15}s"
    return [
        ["certified_mnist.py", "--data", mnist, "--name", name, "--seconds", minutes15, *cayley],
        ["certified_mnist_linf.py", "--data", mnist, "--epochs", "12", "--test", "500", *seeds],
        ["certified_cifar.py", "--data", cifar, "--work", str(arguments.work), "--seconds", hour, *seeds],
        ["certified_mnist.py", "--data", mnist, "--name", name, "--seconds", minutes15, *seeds],
    ]


def main() -> None:
    """Runs all, says how each ended, and ends with an error if one did."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="folder with mnist.npz and --cifar")
    p.add_argument("--cifar", default="cifar10.npz")
    p.add_argument("--work", type=Path, required=True, help="folder for networks and checkpoints")
    p.add_argument("--scale", type=float, default=1.0, help="share of the full budgets")
    p.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = p.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with (arguments.work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(
                f"another driver works in {arguments.work}: wait for it, or give --work"
            ) from None
        os.nice(LOWEST)
        failed = 0
        for command in jobs(arguments):
            print("==", *command, flush=True)
            command = [sys.executable, "-u", str(ROOT / "benchmarks" / command[0]), *command[1:]]
            code = subprocess.run(command, env=ENVIRONMENT, check=False).returncode
            print(f"== ended with {code}", flush=True)
            failed += code != 0
    raise SystemExit(f"{failed} of the tables are not complete: run again" if failed else 0)


if __name__ == "__main__":
    main()
