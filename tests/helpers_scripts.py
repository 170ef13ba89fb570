"""The scripts of the virtual environment, run as users run them."""

import atexit
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

SCRIPTS = Path(sys.executable).parent
# CI: OpenVINO, which anomalib imports, does not try to reach its makers then (from a thread, which no fork would have)
ENVIRONMENT = {"PYTHONWARNINGS": "ignore", "COLUMNS": "200", "HF_HUB_OFFLINE": "1", "CI": "true"}
SERVED = ("anomalib", "anomalib-sofs")


@cache
def server():
    """The process whose forks run scripts, one for all tests of this process."""
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("script_server.py"), "anomalib.cli.cli"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | ENVIRONMENT,
    )
    atexit.register(process.communicate)  # it ends with its standard input
    return process


def run_in_fork(command, cwd, timeout):
    """Run a script as `subprocess.run` would, without importing anomalib once more."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        request = {"command": command, "cwd": str(cwd), "timeout": timeout, "stdout": str(out), "stderr": str(err)}
        print(json.dumps(request), file=server().stdin, flush=True)
        code = int(server().stdout.readline())
        return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


def run(*command, cwd, env=None, check=True, timeout=300, fresh=False):
    """Run a command of the virtual environment and return the finished process, its output as text.

    Args:
        command: The name of a script, or another program, and its arguments.
        cwd: Where it runs.
        env: Environment variables beside those that there are.
        check: Whether a code other than 0 fails the test.
        timeout: Seconds after which it is killed.
        fresh: Whether a process must be started anew although it is a script of anomalib or ours. With variables of
            its own, or where nothing can be forked safely, it always is.
    """
    program = SCRIPTS / str(command[0])
    parts = [str(program if program.exists() else command[0]), *map(str, command[1:])]
    if command[0] in SERVED and not (fresh or env) and sys.platform.startswith("linux"):
        done = run_in_fork(parts, cwd, timeout)
    else:
        done = subprocess.run(
            parts,
            cwd=cwd,
            env=os.environ | ENVIRONMENT | (env or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    if check and done.returncode:
        pytest.fail(
            f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
        )
    return done
