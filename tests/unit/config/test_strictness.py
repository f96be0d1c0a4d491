"""Nothing that a person wrote is ignored: an unknown key is refused at every depth, whoever writes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from builder.config.documents import read_document
from builder.config.interpolation_size import lookups
from builder.diagnostics.render import DiagnosticsError
from builder.errors import ConfigurationError
from tests.unit.config.conftest import LEAST, Compose

FULL: dict[str, Any] = {
    "schema": 1,
    "source": {"kind": "torchvision", "name": "mobilenet_v2", "weights": "DEFAULT"},
    "input": {"image": {"kind": "image", "shape": [1, 3, {"min": 8, "max": 64}, 32], "scale": 1}},
    "output": {"logits": {"dtype": "float32"}},
    "substitutions": {"relu6_to_relu": {"modules": ["features.*"]}},
    "capture": {"method": "trace"},
    "precision": {"kind": "mixed", "fp32_op_types": ["softmax"]},
    "compression": {"int8": {"kind": "linear_quantize", "dtype": "int8"}},
    "target": {"name": "ios18"},
    "checks": {"parity": {"snr_db": {"min": 20}, "data": {"kind": "noise"}}, "structure": {"bytes": {"max": 1000}}},
    "metadata": {"author": "me"},
    "tracking": {"kind": "mlflow", "required": False},
}


def mappings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every mapping in which keys are settings, not names that a person chooses."""
    if isinstance(value, dict):
        if path not in {("input",), ("output",), ("substitutions",), ("compression",), ("checks",)}:
            yield path
        for key, child in value.items():
            yield from mappings(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from mappings(child, (*path, index))


PLACES = list(mappings(FULL))


def with_key(path: tuple[Any, ...], key: str) -> dict[str, Any]:
    result = yaml.safe_load(yaml.safe_dump(FULL))
    node = result
    for step in path:
        node = node[step]
    node[key] = 1
    return dict(result)


def test_the_full_recipe_is_sound(composed: Compose) -> None:
    assert composed(text=yaml.safe_dump(FULL, sort_keys=False)).spec.precision.kind == "mixed"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), letters=st.text("abcdefghij_", min_size=1, max_size=8))
def test_an_unknown_key_is_refused_at_any_depth(place: tuple[Any, ...], letters: str, composed: Compose) -> None:
    # given the full recipe with one key that no schema has
    key = f"zz_{letters}"
    text = yaml.safe_dump(with_key(place, key), sort_keys=False)

    # when it is composed, then the key is named with its line
    with pytest.raises(DiagnosticsError) as raised:
        composed(text=text)
    dotted = ".".join([*(str(step) for step in place), key])
    finding = next(f for f in raised.value.diagnostics if f.key == dotted)
    assert finding.span is not None
    assert text.splitlines()[finding.span.line - 1].strip(" -").startswith(key)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.sampled_from(PLACES),
    letters=st.text("abcdefghij_", min_size=1, max_size=8),
    prefix=st.sampled_from(["", "+", "++"]),
)
def test_an_unknown_key_of_the_command_line_is_refused_at_any_depth(
    place: tuple[Any, ...], letters: str, prefix: str, composed: Compose
) -> None:
    key = ".".join([*(str(step) for step in place), f"zz_{letters}"])
    with pytest.raises(ConfigurationError, match=rf"error\[B0211\]: {key}: unknown key"):
        composed(f"{prefix}{key}=1", text=yaml.safe_dump(FULL, sort_keys=False))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(argument=st.text(max_size=30))
def test_no_argument_breaks_the_composition(argument: str, composed: Compose) -> None:
    """Whatever is typed, it composes or is explained."""
    with suppress(ConfigurationError):
        composed(argument)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=80))
def test_no_text_breaks_the_composition(text: str, composed: Compose) -> None:
    with suppress(ConfigurationError):
        composed(text=text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [" + "x," * 500_000 + "]", "more than 50,000 values"),
        ("a: " + "[" * 200 + "x," * 100_000, "nested too deeply"),
        ("a: [" + ("[" * 60 + "]" * 60 + ",") * 8_000 + "]", "more than 50,000 values"),
        ("- " * 100 + "x", "nested too deeply"),
    ],
    ids=["wide", "deep and wide", "many deep ones", "blocks"],
)
def test_what_would_take_minutes_is_not_read_whole(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    began = time.process_time()
    document = read_document(tmp_path / "r.yaml")
    assert message in document.findings[0].message
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("names", "is_refused"),
    [
        ([f"${{metadata.{i + 1}}}${{metadata.{i + 1}}}" for i in range(20)], True),
        ([f"${{.{i + 1}}}${{.{i + 1}}}" for i in range(20)], True),
        ([f"${{metadata.${{metadata.n}}}}${{metadata.{i + 1}}}" for i in range(20)], True),
        ([f"${{oc.select:metadata.{i + 1}}}" * 2 for i in range(20)], True),
        ([f"${{metadata.{i + 1}}}" for i in range(20)], False),
        (["${metadata.1}${metadata.0}", "${metadata.0}${metadata.1}"] * 2, False),
        (["${oc.env:HOME}${metadata.${metadata.n}}"] * 5, False),
    ],
    ids=["doubles", "relative", "computed", "selected", "a chain", "a cycle", "few"],
)
def test_interpolations_cannot_multiply(names: list[str], *, is_refused: bool) -> None:
    texts = {("metadata", str(i)): text for i, text in enumerate(names)}
    assert (lookups(texts) is None) == is_refused


def test_a_recipe_whose_interpolations_multiply_is_refused(composed: Compose) -> None:
    lines = "".join(f"  k{i}: ${{metadata.k{i + 1}}}${{metadata.k{i + 1}}}\n" for i in range(30))
    began = time.process_time()
    with pytest.raises(ConfigurationError, match="more than 10,000 look-ups"):
        composed(text=LEAST + "metadata:\n" + lines)
    assert time.process_time() - began < 10


def test_a_document_in_an_interpolation_cannot_multiply(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9))]
    monkeypatch.setenv("BOMB", "{" + ", ".join(lines) + "}")
    began = time.process_time()
    with pytest.raises(ConfigurationError, match=r"oc\.create"):
        composed(text=LEAST + 'metadata: {author: "${oc.create:${oc.env:BOMB}}"}\n')
    assert time.process_time() - began < 10
    assert OmegaConf.has_resolver("oc.create")
