"""Pydantic models that are built when they are first used.

By default pydantic makes a validator and a serializer for each class as it is defined, of models within models over and
over. A process uses few of them, and most only as a part of another.
(https://docs.pydantic.dev/latest/api/config/#pydantic.config.ConfigDict.defer_build)
"""

from pydantic import BaseModel, ConfigDict

__all__ = ["LateModel"]


class LateModel(BaseModel):
    """The base of our models."""

    model_config = ConfigDict(defer_build=True)
