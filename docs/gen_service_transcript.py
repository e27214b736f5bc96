"""Writes the service's transcript into README.md: the commands, and what they print against a real server.

Run it as ``python docs/gen_service_transcript.py`` from the repository root, with ``.[service]`` and curl. A
test runs the same commands and compares what does not change from run to run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "README.md"
VERIFY = Path(sys.executable).parent / "verify"
BEGIN, END = "<!-- service -->\n", "<!-- /service -->"
URL = "http://127.0.0.1:8732"

# shown as typed; what they print follows in the transcript
COMMANDS = (
    "cd examples",
    "digest=$(sha256sum models/pendulum.onnx | cut -d' ' -f1)",
    f"curl -s -T models/pendulum.onnx {URL}/v1/models/$digest -o model.json -w '%{{http_code}}\\n'",
    """python3 - $digest properties/pendulum_limit_unsat.vnnlib > job.json <<'END'
import json, sys
print(json.dumps({"kind": "verify", "model": sys.argv[1], "timeout_s": 30,
                  "property": {"vnnlib": open(sys.argv[2]).read()}}))
END""",
    f"curl -s -H 'Content-Type: application/json' -d @job.json -D head.txt -o answer.json {URL}/v1/jobs",
    "job=$(grep -i '^location:' head.txt | cut -d' ' -f2 | tr -d '\\r')",
    f"curl -sN {URL}$job/events | grep -A 1 '^event: done'",
    f"""curl -s {URL}$job | grep -o '"state":"[a-z]*","verdict":"[a-z]*"'""",
    f"curl -s {URL}$job/certificate -o proof.sbcert",
    "verify check proof.sbcert --model models/pendulum.onnx \\\n"
    "    --property properties/pendulum_limit_unsat.vnnlib",
)


def run() -> str:
    """The transcript, from a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "examples").mkdir()
        for name in ("models", "properties"):
            (place / "examples" / name).symlink_to(ROOT / "examples" / name)
        server = subprocess.Popen(  # noqa: S603 - our own command
            [VERIFY, "serve", "--port", "0", "--data", "data"],
            cwd=place,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert server.stdout is not None
        try:
            url = server.stdout.readline().split()[-1]
            lines = [f"$ verify serve &\nsurebound listens on {URL}"]
            script = "set -e\n"
            for i, command in enumerate(COMMANDS):
                script += f"{{ {command.replace(URL, url)}\n}} 2>&1\nprintf '\\n@@{i}\\n'\n"
            bash, here = (
                str(shutil.which("bash")),
                {**os.environ, "PATH": f"{VERIFY.parent}:{os.environ['PATH']}"},
            )
            done = subprocess.run(  # noqa: S603 - the commands above
                [bash, "-c", script], cwd=place, capture_output=True, text=True, check=False, env=here
            )
            if done.returncode:
                raise SystemExit(f"a command failed:\n{done.stdout}\n{done.stderr}")
            parts = re.split(r"\n@@\d+\n", done.stdout)
            for command, printed in zip(COMMANDS, parts, strict=False):
                lines.append(f"$ {command}" + (f"\n{printed.strip()}" if printed.strip() else ""))
        finally:
            server.terminate()
            server.wait(60)
            server.stdout.close()
    return "\n".join(lines)


def steady(transcript: str) -> str:
    """Without what differs between runs: times and counts."""
    return re.sub(r"\d{4}-[0-9T:.-]+Z|[0-9]+\.[0-9]+ s|[0-9]+ nodes|[0-9]+ pieces", "*", transcript)


def main() -> int:
    """Writes the page."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}```text\n{run()}\n```\n{END}{tail}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
