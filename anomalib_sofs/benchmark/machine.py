"""What a result depends on besides the code: the command, versions, the machine."""

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("anomalib-sofs", "anomalib", "torch", "timm", "lightning", "numpy")


def machine_in_words() -> str:
    """Describe processor, cores and threads."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        names = [line.split(":", 1)[1].strip() for line in lines]
        model = names[0] if names else model
    gpu = f", {torch.cuda.get_device_name()} (not used)" if torch.cuda.is_available() else ""
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


def provenance() -> dict[str, Any]:
    """Return the record at the head of every result file."""
    return {
        "command": shlex.join(["python", "-m", "anomalib_sofs.benchmark", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
        "machine": machine_in_words(),
    }
