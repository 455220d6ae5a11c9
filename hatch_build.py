"""Ship `configs/` inside the wheel, and only there.

Hatchling's own `force-include` also copies into an editable install, where the copy,
`site-packages/data_shards/` without an `__init__.py`, would hide the real package.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShipConfigs(BuildHookInterface):
    """An installed wheel runs the demo: recipes lie in `data_shards/shipped_configs`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the recipes to every wheel that is not an editable install."""
        if version != "editable":
            build_data["force_include"]["configs"] = "data_shards/shipped_configs"
