"""Configuration: one pydantic model per section; they generate the schema and the manual."""

from quarry.config.campaign import ArmSettings, Configuration
from quarry.config.loading import load_configuration

__all__ = ["ArmSettings", "Configuration", "load_configuration"]
