"""What fields mean, against what pydantic itself reads of the same sources."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict

from builder.config.meanings import DescribedSchema, meanings


class Told(BaseModel):
    """Read by pydantic."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    width: int = 1
    """So many pixels.

    In two paragraphs.
    """
    height: int = 1
    name: str = ""
    """What it is called."""


class ToldAgain(Told):
    """Inherits one meaning and changes another."""

    name: str = "again"
    """What it is called now."""


@pytest.mark.parametrize("part", [Told, ToldAgain])
def test_meanings_are_those_that_pydantic_reads(part: type[BaseModel]) -> None:
    theirs = {name: field.description for name, field in part.model_fields.items() if field.description}
    assert meanings(part) == theirs
    assert set(theirs) == {"width", "name"}


def test_a_described_schema_is_the_one_that_pydantic_makes_with_them() -> None:
    class Silent(BaseModel):
        width: int = 1
        """So many pixels."""

    class Loud(Silent):
        model_config = ConfigDict(use_attribute_docstrings=True)
        width: int = 1
        """So many pixels."""

    mine, theirs = Silent.model_json_schema(schema_generator=DescribedSchema), Loud.model_json_schema()
    assert mine["properties"] == theirs["properties"]
    assert mine["properties"]["width"]["description"] == "So many pixels."
