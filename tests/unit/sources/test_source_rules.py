"""What a source cannot do is found before anything is loaded."""

from __future__ import annotations

import pytest

from builder.spec import BuildSpec
from builder.spec.rules.source import source_problems

PICTURE = {"kind": "image", "shape": [1, 3, 8, 8]}
FROM_WEIGHTS = {"image": PICTURE | {"from_weights": True}}
LABELS = {"labels": "from_weights"}


def problems(source, **parts):
    given = {
        "source": source,
        "input": {"image": PICTURE | {"scale": 1}},
        "precision": {"kind": "fp32"},
        "target": {"name": "ios15"},
        "tracking": {"kind": "none"},
    }
    return [(".".join(found.path), found.message) for found in source_problems(BuildSpec.model_validate(given | parts))]


FINE = [
    ({"kind": "torchscript", "file": "m"}, {}),
    ({"kind": "exported_program", "file": "m"}, {"capture": {"method": "export"}}),
    ({"kind": "onnx", "file": "m"}, {}),
    ({"kind": "timm", "name": "m"}, {"input": FROM_WEIGHTS}),
    ({"kind": "timm", "name": "m", "pretrained": True}, {"classifier": LABELS}),
    ({"kind": "huggingface", "folder": "m"}, {"input": FROM_WEIGHTS, "classifier": LABELS}),
    ({"kind": "huggingface", "config_class": "C"}, {"classifier": LABELS}),
    ({"kind": "huggingface", "model": "a/b", "config_class": "C", "offline": "seeded"}, {}),
    ({"kind": "coreml", "file": "m"}, {"classifier": LABELS | {"softmax": False}}),
    ({"kind": "python", "factory": "a:b"}, {"capture": {"method": "onnx"}}),
]


@pytest.mark.parametrize(("source", "parts"), FINE)
def test_what_goes_together(source, parts):
    assert problems(source, **parts) == []


IDS = {"kind": "tensor", "shape": [1, 1], "dtype": "int32"}
SEQUENCES = {"decoder_input_ids": IDS, "position": IDS | {"shape": [1]}}

WRONG = [
    (
        {"kind": "coreml", "file": "m"},
        {"input": {"x": {"kind": "tensor", "shape": [1]}, "rate": {"constant": 1}}},
        "input.rate",
        "baked into an existing",
    ),
    (
        {"kind": "coreml", "file": "m"},
        {"input": {"x": {"kind": "tensor", "shape": [1], "source_name": "y"}}},
        "input.x.source_name",
        "keeps the names",
    ),
    (
        {"kind": "huggingface", "config_class": "C", "part": "encoder", "cache_length": 8},
        {},
        "source.cache_length",
        "an encoder writes no tokens",
    ),
    (
        {"kind": "huggingface", "config_class": "C", "part": "decoder", "cache_length": 8},
        {"input": SEQUENCES},
        "input",
        "takes decoder_input_ids, encoder_hidden_states and position",
    ),
    (
        {"kind": "huggingface", "config_class": "C", "part": "decoder"},
        {"input": {"decoder_input_ids": IDS}},
        "input",
        "`part: decoder` takes encoder_hidden_states; this says decoder_input_ids",
    ),
    ({"kind": "timm", "name": "m", "sha256": "0" * 64}, {}, "source.sha256", "without weights"),
    ({"kind": "timm", "name": "m", "state_dict_key": "ema"}, {}, "source.state_dict_key", "none is named"),
    ({"kind": "torchvision", "name": "m", "strip_prefix": "m."}, {}, "source.strip_prefix", "none is named"),
    ({"kind": "timm", "name": "m"}, {"classifier": LABELS}, "classifier.labels", "published weights"),
    ({"kind": "onnx", "file": "m"}, {"classifier": LABELS}, "classifier.labels", "published weights"),
    ({"kind": "onnx", "file": "m"}, {"input": FROM_WEIGHTS}, "input.image.from_weights", "published weights"),
    ({"kind": "onnx", "file": "m"}, {"capture": {"method": "trace"}}, "capture.method", "a program already"),
    ({"kind": "coreml", "file": "m"}, {"capture": {"method": "onnx"}}, "capture.method", "a program already"),
    ({"kind": "onnx", "file": "m"}, {"substitutions": {"silu": None}}, "substitutions", "kind onnx has none"),
    ({"kind": "torchscript", "file": "m"}, {"substitutions": {"silu": None}}, "substitutions", "torchscript has none"),
    ({"kind": "exported_program", "file": "m"}, {"substitutions": {"silu": None}}, "substitutions", "has none"),
    ({"kind": "coreml", "file": "m"}, {"classifier": LABELS}, "classifier.softmax", "probabilities already"),
    (
        {"kind": "coreml", "file": "m"},
        {"input": {"image": PICTURE | {"mean": 0.5, "std": 0.5}}},
        "input.image",
        "normalises its pictures itself",
    ),
    ({"kind": "coreml", "file": "m"}, {"input": {"image": PICTURE | {"scale": 1, "bias": 2}}}, "input.image", "itself"),
    ({"kind": "huggingface"}, {}, "source", "needs `folder`, `model` or `config_class`"),
    ({"kind": "huggingface", "folder": "a", "model": "b"}, {}, "source.model", "one of folder and model"),
    ({"kind": "huggingface", "folder": "a", "revision": "main"}, {}, "source.revision", "belongs to `model`"),
    ({"kind": "huggingface", "model": "a/b", "offline": "seeded"}, {}, "source.offline", "need a configuration"),
    (
        {"kind": "huggingface", "config_class": "C"},
        {"input": FROM_WEIGHTS},
        "input.image.from_weights",
        "published weights",
    ),
]


@pytest.mark.parametrize(("source", "parts", "path", "said"), WRONG)
def test_what_does_not(source, parts, path, said):
    ((found, message),) = problems(source, **parts)
    assert found == path
    assert said in message
