"""`anomalib-sofs doctor`: what this machine and installation are, checked, as text for a bug report.

Every check says one line, and what to do where it fails; one that fails does not keep the others from being made. No
path of the machine is told unless it is what fails.
"""

import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

PACKAGE = "anomalib-sofs"
SHOWN = ("anomalib", "torch", "torchvision", "lightning", "timm", "numpy", "opencv-python-headless", "openvino")
CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")
"""Instruction sets that matter for the time of a query, as Linux names them (x86, then ARM)."""

SIDE = 192
LEAST_IOU = 0.3
"""Overlap with the mark that a search in the marked image itself has to reach: 0.5 is usual."""

REINSTALL = f"install the package again, into a new environment: pip install {PACKAGE}"


class CheckError(Exception):
    """What is wrong; the remedy of its check says what to do about it."""


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Args:
        name: What is looked at.
        look: Returns what was found, or raises.
        remedy: What to do where it raises.
    """

    name: str
    look: Callable[[], str]
    remedy: str

    def line(self) -> tuple[bool, str]:
        """Look, and return whether all is well, and the line that says so."""
        try:
            found = self.look()
        except CheckError as error:
            return False, f"[fails] {self.name}: {error}\n        what to do: {self.remedy}"
        except Exception as error:  # noqa: BLE001 - a broken installation can raise anything, and the report goes on
            return False, f"[fails] {self.name}: {type(error).__name__}: {error}\n        what to do: {self.remedy}"
        return True, f"[ok]    {self.name}: {found}"


def doctor(omp_wait_policy: str | None) -> Iterator[tuple[bool, str]]:
    """Make every check, in an order in which the first failure explains those that follow.

    Args:
        omp_wait_policy: ``OMP_WAIT_POLICY`` as the user has set it.
    """
    for check in (
        Check("versions", versions, REINSTALL),
        Check("processor", processor, ""),
        Check("torch", lambda: threads(omp_wait_policy), REINSTALL),
        Check("anomalib", registration, f"{REINSTALL}; `--model anomalib_sofs.Sofs` works without the start-up hook"),
        Check("weights", weights, REINSTALL),
        Check("writing", writing, "start in a folder that you may write to, or set TMPDIR to one; free some space"),
        Check("prediction", prediction, f"paste this report into a bug report; then {REINSTALL}"),
    ):
        yield check.line()


def installed(name: str) -> str | None:
    """Return the version of a distribution, ``None`` where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions() -> str:
    """Tell versions, and compare them with what the package asks for.

    Raises:
        CheckError: If something is missing or too old.
    """
    wrong = []
    for requirement in map(Requirement, requires(PACKAGE) or []):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = installed(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found or 'missing'}, needed: {requirement.specifier or 'any'}")
    if wrong:
        raise CheckError("; ".join(wrong))
    names = (PACKAGE, *SHOWN)
    found_here = ", ".join(f"{name} {installed(name)}" for name in names if installed(name))
    return f"Python {platform.python_version()}, {found_here}"


def processor() -> str:
    """Name the processor, its cores, and the instruction sets that matter, where the system tells them."""
    model, flags = platform.processor() or platform.machine(), set[str]()
    if CPUINFO.is_file():
        text = CPUINFO.read_text()
        names = re.findall(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        model = names[0] if names else model
        flags = {
            flag for line in re.findall(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE) for flag in line.split()
        }
    known = [name for name in INSTRUCTIONS if name in flags]
    told = ", ".join(known) if known else "none told" if not flags else "none of those that matter"
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}; instruction sets: {told}"


def threads(omp_wait_policy: str | None) -> str:
    """Tell torch's threads, what they do while they wait, and which accelerator there is."""
    import torch  # noqa: PLC0415

    waiting = f"OMP_WAIT_POLICY={omp_wait_policy}" if omp_wait_policy else "OMP_WAIT_POLICY is not set"
    if (omp_wait_policy or "").upper() != "PASSIVE":
        waiting += " (beside other programs, set it to PASSIVE: waiting threads spin otherwise)"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    return f"{torch.get_num_threads()} threads, {waiting}; {device}"


def registration() -> str:
    """Make sure that anomalib's own commands know the model.

    Raises:
        CheckError: If they do not.
    """
    import anomalib.models  # noqa: PLC0415

    if not hasattr(anomalib.models, "Sofs") or "sofs" not in anomalib.models.list_models():
        msg = "`anomalib` does not know the model Sofs"
        raise CheckError(msg)
    hook = "off (ANOMALIB_SOFS_AUTOLOAD=0)" if os.environ.get("ANOMALIB_SOFS_AUTOLOAD") == "0" else "on"
    return f"knows Sofs; start-up hook {hook}"


def weights() -> str:
    """Read the weights that come with the installation: the trained head's and the backbone's.

    Raises:
        CheckError: If the head's file is missing.
    """
    from anomalib_sofs.model.backbone import DEFAULT_BACKBONE, offline_weights  # noqa: PLC0415
    from anomalib_sofs.model.weights import packaged_weights, read_state  # noqa: PLC0415

    path = packaged_weights("relation", DEFAULT_BACKBONE)
    if path is None:
        msg = f"the trained head for {DEFAULT_BACKBONE} is not in the package"
        raise CheckError(msg)
    head, backbone = read_state(path), offline_weights(DEFAULT_BACKBONE)
    return f"{path.name} ({len(head)} tensors), backbone {DEFAULT_BACKBONE} ({len(backbone)} tensors)"


def writing() -> str:
    """Write a file where results and scratch files go.

    Raises:
        CheckError: If that is not possible, naming the folder.
    """
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".anomalib_sofs_doctor_") as file:
                file.write(b"x")
                file.flush()
        except OSError as error:
            msg = f"{folder} cannot be written to: {error.strerror or error}"
            raise CheckError(msg) from error
    return "current folder and temporary folder"


def prediction() -> str:
    """Mark a rendered defect, and search the marked image itself.

    Raises:
        CheckError: If what is found is not what was marked.
    """
    import torch  # noqa: PLC0415

    from anomalib_sofs.data.surfaces import render  # noqa: PLC0415
    from anomalib_sofs.model import Sofs, SupportSet  # noqa: PLC0415

    array, marked = render("casting", "crack", style=3, seed=1, size=(SIDE, SIDE))
    image, mask = torch.from_numpy(array).permute(2, 0, 1) / 255, torch.from_numpy(marked) > 0
    model = Sofs(visualizer=False, evaluator=False).eval()
    started = time.perf_counter()
    model.set_support(SupportSet([image], [mask]))
    encoded = time.perf_counter()
    with torch.inference_mode():
        found = model(image[None]).pred_mask[0] > 0
    done = time.perf_counter()
    iou = ((found & mask).sum() / (found | mask).sum()).item()
    if not iou >= LEAST_IOU:
        msg = f"searching a marked image itself, overlap (IoU) of {iou:.2f}, expected {LEAST_IOU} or more"
        raise CheckError(msg)
    return (
        f"{SIDE} x {SIDE} pixels: support encoded in {encoded - started:.2f} s, query in {done - encoded:.2f} s, "
        f"IoU {iou:.2f} with the mark"
    )
