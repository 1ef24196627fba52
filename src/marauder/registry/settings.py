"""Settings of the registry: which one, and where."""

from __future__ import annotations

from pydantic import Field, field_validator

from marauder.core.plain import Plain
from marauder.core.plugins import is_known, names
from marauder.core.settings import Settings


class RegistrySettings(Settings):
    """Where the models of runs are registered."""

    kind: str = Field("mlflow", description="where models are registered: mlflow, files, wandb, sagemaker, or none")
    options: Plain = Field(default_factory=dict, description="what that registry needs: an address, a bucket")

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != "none" and not is_known("registry", value):
            raise ValueError(f"no registry named {value!r}; choose of: {', '.join(names('registry'))}, none")
        return value
