"""What is in the key of a stage is what can change its result: measured in modules and packages that the keys reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.spec import BuildSpec
from builder.spec.source_kinds import SOURCES
from builder.store.code import _GUARDS, _package, _reached, own_file, package_stats
from builder.store.digests import StatCache
from builder.store.imports import scan, scan_own
from builder.store.inputs import _roots

SPEC = {
    "schema": 1,
    "source": {"kind": "torchvision", "name": "mobilenet_v2"},
    "input": {"image": {"kind": "image", "shape": [1, 3, 32, 32], "scale": 1}},
    "precision": {"kind": "fp16"},
    "target": {"name": "ios16"},
    "tracking": {"kind": "none"},
}
SETTINGS = {
    "torchvision": {"name": "mobilenet_v2"},
    "timm": {"name": "resnet18"},
    "onnx": {"file": "a.onnx"},
    "python": {"factory": "a:b"},
}


def reach(stage: str, kind: str, folder: Path) -> tuple[set[str], set[str]]:
    """The files of builder and the foreign packages in the key of a stage, for a source of `kind`."""
    spec = BuildSpec.model_validate({**SPEC, "source": {"kind": kind, **SETTINGS[kind]}})
    found, packages = _reached(_roots(stage, spec), _package(), StatCache(folder / "remembered.json"))
    return set(found), set(packages)


@pytest.mark.parametrize("kind", SETTINGS)
def test_loading_one_kind_of_source_depends_on_no_other(kind: str, tmp_path: Path) -> None:
    # when
    files, packages = reach("load", kind, tmp_path)

    # then no other kind's loader is in the key, and no package that only other kinds use
    loaders = {k.load.partition(":")[0].removeprefix("builder.").replace(".", "/") + ".py": k for k in SOURCES}
    assert {loaders[file].name for file in files & set(loaders)} == {kind}
    foreign = {
        name for k in SOURCES if k.load not in {loaders[f].load for f in files & set(loaders)} for name in k.packages
    }
    assert packages & foreign == set()


def test_the_key_of_loading_a_torchvision_model_is_small(tmp_path: Path) -> None:
    files, packages = reach("load", "torchvision", tmp_path)
    assert len(files) <= 82, sorted(files)  # 157 once; 21 are the kinds of data that examples are drawn from
    others = {
        file for file in files if file.startswith(("coreml_runtime/", "analysis/", "checks/", "backends/", "reports/"))
    }
    assert others == {"coreml_runtime/picture_files.py"}, "which says what a picture is, of an artifact's inputs too"
    assert packages <= {"PIL", "numpy", "safetensors", "sklearn", "torch", "torchvision"}, packages


def test_what_only_words_advice_is_in_no_key(tmp_path: Path) -> None:
    for stage in ("load", "prepare", "capture", "convert", "compress"):
        files, _ = reach(stage, "torchvision", tmp_path)
        assert not {file for file in files if file.startswith(("analysis/", "reports/", "cli/", "tracking/"))}, stage
        assert {file for file in files if file.startswith("util/")}.isdisjoint(_GUARDS), stage


def test_what_executes_an_artifact_is_in_the_key_of_its_checks(tmp_path: Path) -> None:
    files, _ = reach("verify", "torchvision", tmp_path)
    assert {"coreml_runtime/model.py", "coreml_runtime/ops/conv.py"} <= files


def test_imports_of_our_own_files_are_found_without_parsing_them_whole() -> None:
    # given every file of ours
    files = [own_file(name) for name in package_stats()]

    # when their imports are sought by lines, then those of Python's parser are found
    assert {path: scan_own(path) for path in files} == {path: scan(path) for path in files}


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ('"""Says\nimport os\n"""\nfrom a import (\n    b,  # import c\n    d,\n)\n', ["a", "a.b", "a.d"]),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b\nimport c\n", ["b", "c"]),
        ("if x: import a\ny = 1; import b\n", ["a", "b"]),
        ("from a \\\n    import b\n", ["a", "a.b"]),
        ("import_module('a')\n", ["a"]),
    ],
)
def test_what_lines_do_not_show_is_parsed(code: str, modules: list[str], tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(code)
    assert scan_own(path) == {"modules": modules}
