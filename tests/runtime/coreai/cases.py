"""Small graphs of one operator each: Apple's interpreter and our runtime compute them and have to agree.

No expectation of ours stands here: Apple's interpreter is the truth.
"""

from __future__ import annotations

from tests.runtime.coreai.elementwise_cases import binary, unary
from tests.runtime.coreai.layer_cases import compression, convolutions
from tests.runtime.coreai.tensor_cases import indexing, reductions, shaping

CASES = (*unary(), *binary(), *reductions(), *shaping(), *indexing(), *convolutions(), *compression())
