"""Names and texts as Swift writes them."""

from __future__ import annotations

import pytest

from builder.swift.words import comment, identifier, identifiers, literal, module_name


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("mobilenet_v2_fp16", "MobilenetV2Fp16"),
        ("my-net", "MyNet"),
        ("2-nets", "Model2Nets"),
        ("größe", "Groe"),
        ("日本", "ModelPackage"),
        ("vision", "VisionPackage"),
        ("Swift", "SwiftPackage"),
    ],
)
def test_modules(stem: str, name: str) -> None:
    assert module_name(stem) == name


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("input_ids", "inputIds"),
        ("x", "x"),
        ("in", "`in`"),
        ("self", "self_"),
        ("x.1", "x1"),
        ("x1.2", "x1_2"),
        ("1x", "_1x"),
        ("_", "__"),
        ("", "__"),
        ("日本", "日本"),
        ("var_12", "var12"),
        ("classLabel_probs", "classLabelProbs"),
        ("RGB", "RGB"),
        ("Image", "image"),
        ("a b", "aB"),
    ],
)
def test_identifiers(name: str, id_: str) -> None:
    assert identifier(name) == id_


def test_names_that_would_be_one_get_numbers() -> None:
    assert identifiers(["a_b", "a.b", "in", "state"], taken=("state",)) == ["aB", "aB_2", "`in`", "state_2"]


@pytest.mark.parametrize(
    ("text", "swift"),
    [('a"b\\c', r'"a\"b\\c"'), ("\t\x07\n", r'"\t\u{7}\n"'), ("\ud800", r'"\u{FFFD}"'), ("日本", '"日本"')],
)
def test_literals(text: str, swift: str) -> None:
    assert literal(text) == swift


def test_comments_stay_comments() -> None:
    assert comment("a\nb */\r\n\u2028c", indent=2) == "  /// a\n  /// b */\n  ///\n  /// c"
    assert comment("") == "///"
