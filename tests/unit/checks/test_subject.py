"""What a check's data do to the original model is told as a mistake of the data, not as a bug of builder."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from builder.checks.subject import Subject
from builder.errors import SourceError
from builder.progress import Silent


def test_data_that_the_original_cannot_take_is_told() -> None:
    # given a model with a vocabulary of four, and data with a fifth word
    anything: Any = SimpleNamespace(output_names=("y",))
    subject = Subject(spec=anything, prepared=anything, captured=anything, sealed=anything, progress=Silent())
    sample: Any = SimpleNamespace(tensors={"words": torch.tensor([4])})
    embedding = torch.nn.Embedding(4, 2)
    # when, then
    with pytest.raises(SourceError, match="the original model raised IndexError on the data of a check: index out"):
        subject.run_original(lambda words: (embedding(words),), sample)
