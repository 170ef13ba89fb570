"""What a method is called: short in files, in full in tables."""

TITLES = {
    "sofs": "SOFS",
    "sofs+good": "SOFS, thresholds from good images",
    "sofs+witness": "SOFS, all test images as witness (transductive)",
    "discriminant": "discriminant alone",
    "paper": "SOFS as published",
    "paper+good": "SOFS as published, thresholds from good images",
    "prior": "target semantic prior",
    "patchcore": "PatchCore",
    "padim": "PaDiM",
    "mhpatchcore": "MH-PatchCore",
    "anomalydino": "AnomalyDINO",
    "rad": "RAD",
    "foundad": "FoundAD",
    "winclip": "WinCLIP",
}
