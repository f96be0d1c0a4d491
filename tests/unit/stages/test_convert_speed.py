"""The fast conversion gives what coremltools gives by itself, and leaves coremltools as it was."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.backends.coreml import convert as convert_stage
from builder.backends.coreml.convert import convert
from builder.backends.coreml.patches.apply import find_owner
from builder.backends.coreml.patches.conversion import (
    _quick_equal,
    _quick_overflow,
    _without_copies,
    _without_waste,
    fast_conversion,
)
from builder.model.torchvision_import import import_torchvision
from tests.unit.stages.small_builds import TENSOR, Convolutions, capture_module, make_spec


class Recurrent(torch.nn.Module):
    """An LSTM and an embedding of constants: (1, 6, 8) to (1, 6, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(8, 5, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0] * torch.arange(10).float()


def _vit() -> torch.nn.Module:
    transformer = import_torchvision().models.vision_transformer.VisionTransformer
    model: torch.nn.Module = transformer(16, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=10)
    torch.nn.init.normal_(model.heads.head.weight, generator=torch.Generator().manual_seed(1))
    return model


def _mobilenet() -> torch.nn.Module:
    model: torch.nn.Module = import_torchvision().models.mobilenet_v2(weights=None, width_mult=0.25)
    return model


@contextmanager
def _plain() -> Iterator[Callable[[Any], Any]]:
    """What stands for fast_conversion where coremltools is left alone."""
    yield lambda model: model


def _content(model: Any) -> tuple[bytes, bytes]:
    """The specification without dates and tool builds, and the weights."""
    specification = model.get_spec()
    specification.description.metadata.Clear()
    specification.mlProgram.attributes.pop("buildInfo", None)
    weights = Path(model.weights_dir) / "weight.bin" if model.weights_dir else None
    return specification.SerializeToString(deterministic=True), weights.read_bytes() if weights else b""


@pytest.mark.filterwarnings("ignore")  # coremltools' own, in the plain conversion
@pytest.mark.parametrize(
    ("make", "shape"),
    [(Convolutions, [1, 3, 16, 16]), (Recurrent, [1, 6, 8]), (_vit, [1, 3, 16, 16]), (_mobilenet, [1, 3, 32, 32])],
)
@pytest.mark.parametrize("parts", [{}, {"format": "mlmodel", "target": {"name": "ios14"}}])
def test_program_and_weights_equal_those_of_plain_coremltools(
    make: Callable[[], torch.nn.Module], shape: list[int], parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a captured model
    spec = make_spec(input={"x": TENSOR | {"shape": shape}}, **parts)
    prepared, captured, examples, _ = capture_module(make(), spec)
    # when it is converted by us, and by coremltools with nothing replaced
    fast = _content(convert(prepared, captured, examples, spec).model)
    monkeypatch.setattr(convert_stage, "fast_conversion", _plain)
    plain = _content(convert(prepared, captured, examples, spec).model)
    # then specification and weights are the same bytes
    assert fast == plain


@pytest.mark.filterwarnings("ignore")  # coremltools' own, in the hand-written conversion
def test_program_and_weights_equal_those_of_a_hand_written_script() -> None:
    import coremltools as ct

    # given a captured model with a tensor input
    spec = make_spec(input={"x": TENSOR})
    prepared, captured, examples, _ = capture_module(Convolutions(), spec)
    ours = _content(convert(prepared, captured, examples, spec).model)
    # when a script converts the same trace with the usual arguments
    script = ct.convert(
        captured.program,
        inputs=[ct.TensorType(name="x", shape=(1, 3, 16, 16), dtype=np.float32)],
        outputs=[ct.TensorType(name=prepared.output_names[0], dtype=np.float32)],
        minimum_deployment_target=ct.target.iOS16,
    )
    # then both made the same
    assert ours == _content(script)


def test_threads_convert_one_after_the_other() -> None:
    # given captured models of different sizes
    sizes = [16, 20, 24]
    captured = [
        capture_module(Convolutions(), make_spec(input={"x": TENSOR | {"shape": [1, 3, size, size]}})) for size in sizes
    ]
    alone = [_content(convert(*arguments).model) for arguments in captured]
    # when threads convert them at the same time
    with ThreadPoolExecutor(max_workers=len(sizes)) as pool:
        together = list(pool.map(lambda arguments: _content(convert(*arguments).model), captured))
    # then each gets what it gets alone
    assert together == alone


def _state(tmp_path: Path) -> list[Any]:
    found = [find_owner(target) for target, _ in [*_without_waste(), *_without_copies(tmp_path)]]
    return [vars(owner)[name] for owner, name in found]


def test_everything_is_restored_also_after_an_exception(tmp_path: Path) -> None:
    # given the state of all that is replaced
    before, collecting = _state(tmp_path), gc.isenabled()
    # when a conversion fails inside the block
    changed: list[bool] = []

    def fail_inside() -> None:
        with fast_conversion():
            changed.extend(a is not b for a, b in zip(_state(tmp_path), before, strict=True))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    # then everything had been replaced, and everything is as it was
    assert all(changed)
    assert all(a is b for a, b in zip(_state(tmp_path), before, strict=True))
    assert gc.isenabled() == collecting


def test_the_quick_overflow_answers_as_coremltools_does() -> None:
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - as coremltools spells it
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision

    # given constants inside, at and beyond the range of half precision, with infinities and NaN
    values = [1.0, -65504.0, 65505.0, -1e6, np.inf, -np.inf, np.nan, 1e38, 3e38]
    original = FP16ComputePrecision.fp16_overflow
    quick = _quick_overflow(original)

    @mb.program(input_specs=[mb.TensorSpec(shape=(2,))])
    def program(x: Any) -> Any:
        for value in values:
            x = mb.add(x=x, y=np.array([0.5, value], dtype=np.float32))
        return x

    # when both judge each operator
    ops = [op for op in program.functions["main"].operations if op.op_type == "add"]
    # then they agree
    assert [quick(op) for op in ops] == [original(op) for op in ops]
    assert any(original(op) for op in ops)


def test_the_quick_equal_reads_tensors_that_do_not_share_memory() -> None:
    equal = _quick_equal(torch.equal)
    tensor = torch.arange(4.0)
    assert equal(tensor, tensor.view(4))
    assert equal(tensor, tensor.clone())
    assert not equal(tensor, tensor + 1)
    assert not equal(tensor[:2], tensor[2:])


def test_operators_are_inferred_again_only_where_a_transpose_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    from coremltools.converters.mil.mil.passes.defs.optimize_repeat_ops import _TransposeOptimization

    # given a count of the passes that look for transposes
    looked: list[object] = []
    apply_transform = _TransposeOptimization.apply_transform
    monkeypatch.setattr(
        _TransposeOptimization, "apply_transform", lambda self: looked.append(self) or apply_transform(self)
    )

    class Turned(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.relu().permute(0, 3, 1, 2).tanh()

    # when models without and with one are converted
    often = []
    for model in (Convolutions(), Turned()):
        spec = make_spec(input={"x": TENSOR})
        convert(*capture_module(model, spec)[:3], spec)
        often.append(len(looked))
    # then it looks in the second alone
    assert often[0] == 0 < often[1]


@pytest.mark.filterwarnings("ignore")  # coremltools' own, in the plain conversion
@pytest.mark.parametrize("value", [3, 2**40, 2.5, True, "text", np.arange(3), np.arange(3.0), [1, 2], np.float16(1)])
def test_a_constant_has_the_type_and_the_value_that_coremltools_gives(value: object) -> None:
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it
    from coremltools.converters.mil.mil import Function

    def constant() -> tuple[object, object]:
        with Function({}):
            var = mb.const(val=value)
            var.op.type_value_inference(overwrite_output=True)
        return var.sym_type, var.val

    # given what coremltools itself makes of a value
    kind, expected = constant()
    # when it is made within a fast conversion
    with fast_conversion():
        found = constant()
    # then type and value are the same
    assert found[0] == kind
    assert type(found[1]) is type(expected)
    np.testing.assert_array_equal(np.asarray(found[1]), np.asarray(expected))
