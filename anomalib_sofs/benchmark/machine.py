"""What a result depends on besides the code: the request, versions, the machine; never a path of it."""

import os
import platform
import re
import shlex
import subprocess
from argparse import Namespace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("anomalib-sofs", "anomalib", "torch", "timm", "lightning", "numpy", "openvino", "scikit-learn")
PLACEHOLDERS = {"root": "ROOT", "json": "FILE"}
PATH = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:)?[/\\](?:[^\s/\\'\",;:()]+[/\\])*([^\s/\\'\",;:()]*)")


def without_paths(text: str) -> str:
    """Shorten every absolute path in a text to its last part."""
    return PATH.sub(lambda found: found.group(1), text)


def machine_in_words() -> str:
    """Describe processor, cores and threads."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        names = [line.split(":", 1)[1].strip() for line in lines]
        model = names[0] if names else model
    gpu = f", {torch.cuda.get_device_name()} (where device says so)" if torch.cuda.is_available() else ""
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {platform.system()}{gpu}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit() -> str | None:
    """Return the commit of the source tree, ``+`` where files differ from it; ``None`` outside of a git tree."""
    package = Path(__file__).parents[1]
    git = ["git", "-C", str(package)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)  # noqa: S603
        state = subprocess.run(  # noqa: S603
            [*git, "status", "--porcelain", "--", str(package)], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if state.stdout.strip() else "")


def settings(arguments: Namespace) -> dict[str, Any]:
    """Return what was asked for as plain data; of files only the names, of the root nothing."""
    known = {name: found for name, found in vars(arguments).items() if name not in {"task", "root", "json"}}
    if "weights" in known:
        known["weights"] = [Path(name).name for name in known["weights"]]
    return {name: found for name, found in known.items() if found is not None}


def command(arguments: Namespace) -> str:
    """Return the command that repeats a run; ``ROOT`` and ``FILE`` stand for paths."""
    words = ["python", "-m", "anomalib_sofs.benchmark", arguments.task]
    words += [word for name, stands in PLACEHOLDERS.items() if name in arguments for word in (f"--{name}", stands)]
    for name, found in settings(arguments).items():
        option = f"--{name.replace('random_weights', 'random-weights')}"
        if isinstance(found, bool):
            words += [option] if found else []
        else:
            words += [option, ",".join(map(str, found)) or "none" if isinstance(found, list) else str(found)]
    return shlex.join(words)


def provenance(arguments: Namespace, *, waits: bool) -> dict[str, Any]:
    """Return the record at the head of every result file.

    Args:
        arguments: The command line.
        waits: Whether ``OMP_WAIT_POLICY=PASSIVE`` was set in time.
    """
    return {
        "command": command(arguments),
        "settings": settings(arguments),
        "commit": commit(),
        "versions": versions(),
        "machine": machine_in_words(),
        "omp_wait_policy_passive": waits,
    }
