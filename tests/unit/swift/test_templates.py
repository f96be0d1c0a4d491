"""The Swift of each task: as reviewed, in Swift's grammar, whatever names and texts an artifact has."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.artifacts.record import BuildRecord
from builder.reports.html import render_html
from builder.spec.inputs import TensorInput
from builder.swift.describe import package_of_record
from builder.swift.interface import Package
from builder.swift.render import interface_source, swift_files, usage_source
from tests.unit.swift.packages import LABEL, PICTURE, SHOWN, array, by_task, described, faults, package

GOLDEN = Path(__file__).parent / "golden"
WHOLE = ("classifier_both", "step_coreai")
"""Those of which every file is golden; of the others it is the interface."""
TASKS = by_task()
LONGEST = 120
KEYWORDS = "Any Self Type as class default func in init inout let nil protocol repeat self static switch throws try _"


def _golden(task: str) -> str:
    if task not in WHOLE:
        return interface_source(TASKS[task])
    files = swift_files(TASKS[task], engines="the runtime")
    return "\n".join(f"// ===== {name} =====\n{text}" for name, text in files.items())


@pytest.mark.parametrize("task", TASKS)
def test_swift_is_as_reviewed(task: str) -> None:
    path = GOLDEN / f"{task}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(_golden(task), encoding="utf-8")
    assert _golden(task) == path.read_text(encoding="utf-8"), "run with UPDATE_GOLDEN=1 and read the difference"


@pytest.mark.parametrize("task", TASKS)
def test_every_file_is_in_the_grammar_and_neat(task: str) -> None:
    for name, text in swift_files(TASKS[task], engines="the runtime").items():
        assert "None" not in text, name
        assert not text.startswith("\n"), name
        assert text.endswith("\n"), name
        assert not text.endswith("\n\n"), name
        if name.endswith(".swift"):
            assert faults(text) == [], name
            assert "\n\n\n" not in text, name
            assert "{\n\n" not in text, name
            assert "\n\n}" not in text, name
        assert [line for line in text.splitlines() if line != line.rstrip()] == [], name
        assert [line for line in text.splitlines() if len(line) > LONGEST] == [], name


def test_the_grammar_finds_what_is_wrong() -> None:
    assert faults("func f( {") != []


def test_tasks_are_told_apart_by_what_goes_in_and_comes_out() -> None:
    assert {name: each.task for name, each in TASKS.items()} == {
        "classifier_both": "classifier", "detector": "detector", "segmenter": "segmenter",
        "segmenter_classes": "segmenter", "filter": "filter", "embedding": "embedding", "step": "step",
        "step_coreai": "step", "arrays": "arrays",
    }  # fmt: skip


def test_systems_are_those_with_the_artifacts_format() -> None:
    files = swift_files(TASKS["arrays"], engines="")
    assert '.macOS("10.15"),' in files["Package.swift"]
    assert '.visionOS("1.0"),' in files["Package.swift"]
    assert '.iOS("27.0"),' in swift_files(TASKS["step_coreai"], engines="")["Package.swift"]


def test_resources_are_compiled_by_xcode_or_copied() -> None:
    manifest = swift_files(TASKS["classifier_both"], engines="")["Package.swift"]
    assert '.process("Resources/my_net.mlpackage"),' in manifest
    assert '.copy("Resources/my_net.aimodel"),' in manifest


def test_old_systems_get_no_api_that_is_newer() -> None:
    runner = swift_files(TASKS["arrays"], engines="")["Sources/Model2Nets/CoreMLRunner.swift"]
    assert "MLShapedArray" not in runner  # iOS 15
    assert "MLModel.load" not in runner  # async since iOS 15
    assert "await model.prediction" not in runner  # since iOS 17
    assert "await model.prediction" in swift_files(TASKS["segmenter"], engines="")["Sources/MyNet/CoreMLRunner.swift"]


NAMES = st.sampled_from(KEYWORDS.split()) | st.text(min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    stem=st.from_regex(r"[\w][\w.-]{0,12}", fullmatch=True),
    inputs=st.lists(NAMES, min_size=1, max_size=3, unique=True),
    outputs=st.lists(NAMES, min_size=1, max_size=3, unique=True),
    text=st.text(max_size=40),
)
def test_any_names_and_texts(stem: str, inputs: list[str], outputs: list[str], text: str) -> None:
    made = package(
        described(
            [array(name, 1, 4, dtype="int32") for name in inputs],
            [array(name, 1, 4) for name in outputs],
            shown=dict.fromkeys(SHOWN, text),
        ),
        f"{stem}.mlpackage",
    )
    _require_neat(made)
    ids = [each.id for each in made.function.inputs]
    assert len(set(ids)) == len(ids)


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8, unique=True))
def test_any_labels(labels: list[str]) -> None:
    _require_neat(package(described(labels=labels)))


def test_a_thousand_classes_and_texts_that_would_end_comments_and_literals() -> None:
    hostile = 'a */ b "c" \\(exit(1)) \r\n } // \u2028 ``` \\'
    labels = [f"{hostile} {number} Größe 日本 👩‍🚀" for number in range(1000)]
    made = package(described(labels=labels, shown=dict.fromkeys(SHOWN, hostile)))
    _require_neat(made)
    features = swift_files(made, engines="")["Sources/MyNet/Features.swift"]
    assert features.count("Größe") == 1000
    assert "\\\\(exit(1))" in features
    assert " \\(exit(1))" not in features


def _require_neat(made: Package) -> None:
    for name, text in swift_files(made, engines="").items():
        if name.endswith(".swift"):
            assert faults(text) == [], (name, faults(text))
    source = interface_source(made)
    head = source[: source.index("public struct ")]
    assert all(line.startswith(("///", "import ")) or not line for line in head.split("\n")), head


def test_parameters_of_one_picture_need_no_label_and_several_do() -> None:
    two = package(described((PICTURE, {**PICTURE, "name": "mask"}), (array("y", 1, 4),)))
    assert "func predict(image: CGImage, mask: CGImage) async throws -> [Float] {" in interface_source(two)
    assert "classify(_ image: CVPixelBuffer) async throws" in interface_source(package(described()))


def test_usage_calls_what_the_interface_has() -> None:
    for made in TASKS.values():
        usage, source = usage_source(made), interface_source(made)
        assert f"await {made.type}()" in usage
        assert all(f".{function.method}(" in usage for function in made.functions)
        assert all(f"public func {function.method}(" in source for function in made.functions)


def test_labels_are_those_of_the_probabilities() -> None:
    core_ai = swift_files(TASKS["classifier_both"], engines="")["Sources/MyNet/CoreAIRunner.swift"]
    assert "channels: [2, 1, 0]" in core_ai  # BGR
    assert f'found["{LABEL[1]["name"]}"] = .shares' in core_ai


def test_other_sizes_are_the_width_first() -> None:
    source = interface_source(package(described(({**PICTURE, "size_ranges": [[48, 96], [64, -1]]},))))
    assert "- Parameter image: 64 × 48 pixels; sizes may be 64 to any × 48 to 96" in source
    source = interface_source(package(described(({**PICTURE, "enumerated_sizes": [[48, 64], [96, 128]]},))))
    assert "sizes may be 64 × 48, 128 × 96" in source


def test_a_kind_without_swift_is_named(make_record: Callable[..., BuildRecord]) -> None:
    record = make_record(outputs=({"name": "words", "kind": "sequence"},))
    assert "no Swift is written for the feature words, which is of kind sequence" in render_html(record)


def test_the_report_has_the_interface_of_the_package(make_record: Callable[..., BuildRecord]) -> None:
    inputs = (array("ids", 1, 8, dtype="int32"), array("level", 1, 8))
    record = make_record(inputs=inputs, outputs=(array("y", 1, 8),), labels=None)
    spec = record.request.spec.model_copy(
        update={
            "input": {
                "ids": TensorInput(kind="tensor", shape=[1, 8], dtype="int32", high=9),
                "level": TensorInput(kind="tensor", shape=[1, 8], low=-1, high=1),
            }
        }
    )
    record = make_record(
        inputs=inputs, outputs=(array("y", 1, 8),), labels=None, request=replace(record.request, spec=spec)
    )
    source = interface_source(package_of_record(record))
    assert "  ids.allSatisfy { $0 >= 0 && $0 < 9 }," in source
    assert "  level.allSatisfy { $0 >= -1 && $0 <= 1 }," in source
    assert "- Parameter level: 1 × 8 numbers, the last axis fastest; each of them at least -1 and at most 1" in source
    assert faults(source) == []
    assert "MobilenetV2Fp16Model" in render_html(record)
