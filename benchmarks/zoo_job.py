"""One architecture of the zoo, converted once: by the builder, or by the script that people write; in one process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml

SETTINGS: dict[str, Any] = {
    "precision": {"kind": "fp32"},
    "target": {"name": "ios17"},
    "tracking": {"kind": "none"},
    "checks": {"parity": {"kind": "parity", "samples": 2}},
}
"""The rest of each recipe; the script converts for the same target in the same precision."""


_FOR_CORE_AI = {
    "format": "aimodel",
    "target": {"name": "ios27"},
    "checks": {"parity": {"kind": "parity", "samples": 2, "stress": False, "search": 0}},
}
SETTINGS_OF: dict[str, dict[str, Any]] = {"aimodel": _FOR_CORE_AI, "coreai-torch": _FOR_CORE_AI}
"""What a half changes of them."""


def run_job(half: str, name: str, recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Convert one architecture in the empty folder `folder`; returns what the table says of it."""
    os.chdir(folder)
    os.environ |= {"BUILDER_CACHE": str(folder / "cache"), "TMPDIR": str(folder)}
    (folder / "recipes").mkdir()
    (folder / "recipes" / "zoo.yaml").write_text(
        f"# {name}, for the zoo.\n{yaml.safe_dump({'schema': 1, **recipe, **SETTINGS, **SETTINGS_OF.get(half, {})})}"
    )
    started = time.process_time()
    try:
        found = _HALVES[half]()
    except Exception as error:
        found = {"converts": False, "error": _first_line(error)}
    return {"seconds": round(time.process_time() - started + _seconds_of_children(), 1), **found}


def _seconds_of_children() -> float:
    """Processor time of the process that holds Core AI, which is ended for that; 0 where there is none."""
    from builder.backends.coreai.child import end

    end()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def by_builder() -> dict[str, Any]:
    """Build the recipe `zoo` here, and read its `build.json`; what Apple's interpreter measures counts before ours."""
    from builder.__main__ import main

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(["recipe=zoo"])
    found = sorted(Path("outputs").glob("**/build.json"))
    if not found:
        return {"converts": False, "code": code, "error": _told(said.getvalue())}
    document = json.loads(found[0].read_text())
    ours, *apples = [check for check in document["checks"] if check["kind"] == "parity"]
    parity = apples[0] if apples else ours
    worst = _worst(parity)
    return {
        "converts": True,
        "snr_db": worst,
        **({"runtime_db": _worst(ours)} if apples else {}),
        **({} if parity["passed"] or worst is None else {"torch_db": rounding_of_torch()}),
        "passed": parity["passed"],
        "reason": parity["reason"],
        "bytes": document["artifact"]["bytes"],
        "method": document["capture"]["method"],
        "failures": document["capture"]["failures"],
        "lowerings": [used["operator"] for used in document["lowerings"]],
    }


def _worst(check: dict[str, Any]) -> float | None:
    """The lowest SNR of an output."""
    values = [value for value in check["values"].values() if isinstance(value, dict)]
    return min((float(v["snr_db"]) for v in values if v.get("snr_db") is not None), default=None)


def rounding_of_torch() -> float:
    """How far PyTorch in float32 is from itself in float64, in dB: the worst output of the check's samples.

    Where it is as far as the artifact is from PyTorch, the weights amplify rounding, and nothing was converted wrongly.
    """
    from builder.util.measures import compare

    module, samples = _loaded(SETTINGS["checks"]["parity"]["samples"])
    with torch.no_grad():
        found = [_tensors(module(*inputs.values())) for inputs in samples]
        module.train().double().eval()  # `train` lets go of what layers keep in float32 (LeViT's biases)
        doubles = [{name: x.double() if x.is_floating_point() else x for name, x in given.items()} for given in samples]
        expected = [_tensors(module(*inputs.values())) for inputs in doubles]
    pairs = [pair for left, right in zip(expected, found, strict=True) for pair in zip(left, right, strict=True)]
    return min(compare(a, b.double().numpy()).snr_db for a, b in pairs)


def _told(said: str) -> str:
    """The error of a build, without the screen of obstacles and the places of files on this machine."""
    lines = [line for line in said.splitlines() if re.search(r"\berror\[|^\d+\. |^(export|script|trace) does", line)]
    return re.sub(r"/\S*/", "", " ".join(lines or said.splitlines()[-1:]))[:600]


def by_script() -> dict[str, Any]:
    """Trace and convert as coremltools' guide says; only the weights are those that the builder gives the model."""
    import coremltools as ct
    import numpy as np

    import coreml_runtime as runtime
    from builder.util.measures import compare

    module, (inputs,) = _loaded(1)
    started = time.process_time()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, tuple(inputs.values()), strict=False)
        model = ct.convert(
            traced,
            inputs=[ct.TensorType(name=n, shape=x.shape, dtype=x.numpy().dtype) for n, x in inputs.items()],
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
        )
        model.save("script.mlpackage")
    seconds = round(time.process_time() - started, 1)
    with torch.no_grad():
        expected = _tensors(module(*inputs.values()))
    got = list(runtime.load("script.mlpackage").predict({n: x.numpy() for n, x in inputs.items()}).values())
    worst = min(compare(a, np.asarray(b).reshape(a.shape)).snr_db for a, b in zip(expected, got, strict=True))
    size = sum(file.stat().st_size for file in Path("script.mlpackage").rglob("*") if file.is_file())
    return {"converts": True, "snr_db": worst, "bytes": size, "seconds": seconds}


def by_coreai_torch() -> dict[str, Any]:
    """Export and convert as Apple's guide says; the program is run by Apple's interpreter."""
    from coreai_torch import TorchConverter, get_decomp_table

    from builder.backends.coreai.engine import predict
    from builder.util.measures import compare

    module, (inputs,) = _loaded(1)
    started = time.process_time()
    path = Path("script.aimodel").absolute()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, tuple(inputs.values())).run_decompositions(get_decomp_table())
        converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
        converter.add_exported_program(exported, input_names=list(inputs)).to_coreai().save_asset(path)
    seconds = round(time.process_time() - started, 1)
    with torch.no_grad():
        expected = _tensors(module(*inputs.values()))
    ((found,), _) = predict(path, [{name: _narrow(x).numpy() for name, x in inputs.items()}])
    worst = min(compare(a, b.reshape(a.shape)).snr_db for a, b in zip(expected, found.values(), strict=True))
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {"converts": True, "snr_db": worst, "bytes": size, "seconds": seconds}


def _narrow(x: torch.Tensor) -> torch.Tensor:
    """Core AI has no 64-bit integers."""
    return x.int() if x.dtype is torch.int64 else x


_HALVES = {"builder": by_builder, "script": by_script, "aimodel": by_builder, "coreai-torch": by_coreai_torch}


def _loaded(samples: int) -> tuple[torch.nn.Module, list[dict[str, torch.Tensor]]]:
    """The recipe's module with its seeded weights, and its first examples."""
    from builder.config.compose import compose
    from builder.data import make_examples
    from builder.progress import Silent
    from builder.stages.load import load

    request = compose(["recipe=zoo"])
    examples = make_examples(request.spec)
    loaded = load(request.spec, examples, Silent())
    return loaded.module.eval(), [dict(sample.tensors) for sample in examples.samples[:samples]]


def _tensors(returned: Any) -> list[torch.Tensor]:
    if isinstance(returned, torch.Tensor):
        return [returned]
    values = returned.values() if isinstance(returned, dict) else returned
    return [tensor for value in values for tensor in _tensors(value)]


def _first_line(error: BaseException) -> str:
    lines = [line.strip(" -") for line in str(error).splitlines()]
    return f"{type(error).__name__}: {next((line for line in lines if line), '')}"
