"""Runs Python scripts, each in a process of its own: a fork of this one, which has imported what they import.

Importing anomalib is most of what a short run of the `anomalib` script costs. All that comes after it is as in a
process started anew: arguments, working directory, output, exit code, and nothing that an earlier run has left.

Usage: ``python script_server.py MODULE...``; requests come as lines of JSON, exit codes go out as lines.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
from pathlib import Path

for name in sys.argv[1:]:
    importlib.import_module(name)
gc.freeze()  # a collection in a fork would touch, and so copy, all that was imported

for line in sys.stdin:
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, flush=True)  # noqa: T201
        continue
    request = json.loads(line)
    for stream, file in enumerate((os.devnull, request["stdout"], request["stderr"])):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), stream)
    os.chdir(request["cwd"])
    signal.alarm(request["timeout"])
    sys.argv = request["command"]
    sys.path[0] = str(Path(sys.argv[0]).parent)  # as Python does for a script
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit()
