"""What a method is called: short in files, in full in tables."""

from anomalib_sofs.model.paper.head import PaperHead

from .methods import FULL, Method

TITLES = {
    "sofs": "SOFS",
    "paper": "SOFS as published",
    "sofs+good": "SOFS, thresholds from good images",
    "paper+good": "SOFS as published, thresholds from good images",
    "discriminant": "discriminant alone",
    "prior": "target semantic prior",
    "patchcore": "PatchCore",
    "padim": "PaDiM",
    "anomalydino": "AnomalyDINO",
    "winclip": "WinCLIP",
}


def method_id(method: Method) -> str:
    """Return the name of a few-shot segmentation method in files; the full model's depends on its head."""
    return "paper" if method.name == FULL and isinstance(method.encode.model.head, PaperHead) else method.name
