"""Ship the start-up files in editable installs, too: hatchling only does so for wheels by itself."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILES = ("anomalib_sofs_autoload.py", "anomalib_sofs.pth", "anomalib_sofs.start")


class AutoloadHook(BuildHookInterface):
    """Add the start-up files to the root of an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Register the files."""
        del version
        build_data["force_include_editable"] = {f"{self.root}/autoload/{name}": name for name in FILES}
