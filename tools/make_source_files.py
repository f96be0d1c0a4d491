"""Make the small files in recipes/files that the recipes source_*.yaml take their models from.

    python tools/make_source_files.py [--output FOLDER]

One convolutional net of 6,000 parameters is trained for a few seconds on scikit-learn's handwritten digits (grey,
28 x 28, levels of 0 to 1), then written in every format that a recipe can begin with: TorchScript, torch.export, ONNX,
safetensors and Core ML. Needs the optional packages of `coreml-builder[onnx]`. One thread and one seed; the digests
that the recipes expect are printed, since archives of other versions of torch differ.
"""

from __future__ import annotations

import argparse
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from builder.data import draw_samples
from builder.model.sources.coreml import path_digest
from builder.spec.data import DigitsData
from builder.spec.inputs import ImageInput

OUTPUT = Path(__file__).parents[1] / "recipes" / "files"
SIZE = 28
EPOCHS = 30
BATCH = 32


def main() -> None:
    """Train, report the held-out accuracy, write all files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    folder: Path = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = make_net()
    train(model, *load("train"))
    pictures, labels = load("held_out")
    with torch.inference_mode():
        print(f"held-out accuracy: {float((model(pictures).argmax(1) == labels).float().mean()):.4f}")
    for path in write(model, folder):
        print(f"{path.name}: sha256 {path_digest(path)}")


def make_net() -> nn.Sequential:
    """(N, 1, 28, 28) to scores (N, 10)."""
    layers: Sequence[nn.Module] = (
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 4 * 4, 10),
    )
    return nn.Sequential(*layers)


def load(split: str) -> tuple[Tensor, Tensor]:
    """Return pictures (N, 1, 28, 28) in levels of 0 to 1 and labels (N,), as the checks of the recipes see them."""
    image = ImageInput(kind="image", shape=[1, 1, SIZE, SIZE], color_layout="G", scale=1 / 255)
    samples = draw_samples(DigitsData.model_validate({"kind": "digits", "split": split}), {"image": image}, None, 0)
    levels = torch.cat([sample.tensors["image"] for sample in samples])
    return levels / 255, torch.tensor([int(sample.label or "") for sample in samples])


def train(model: nn.Module, pictures: Tensor, labels: Tensor) -> None:
    """AdamW with a learning rate that falls to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(labels)), BATCH):
            loss = nn.functional.cross_entropy(model(pictures[batch]), labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        schedule.step()
    model.eval()


def write(model: nn.Module, folder: Path) -> list[Path]:
    """Write the model in every format; returns the paths."""
    example = torch.zeros(1, 1, SIZE, SIZE)
    paths = [folder / f"digits{end}" for end in (".safetensors", ".pt", ".pt2", ".onnx", ".mlpackage")]
    save_file(model.state_dict(), paths[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript and the ONNX exporter without onnxscript are deprecated
        torch.jit.script(model).save(str(paths[1]))
        torch.export.save(_without_paths(torch.export.export(model, (example,))), paths[2])
        torch.onnx.export(
            model,
            (example,),
            str(paths[3]),
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
        _write_core_ml(model, example, paths[4])
    return paths


def _without_paths(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Without the lines of Python that each operator comes from: they name folders of this machine."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _write_core_ml(model: nn.Module, example: Tensor, path: Path) -> None:
    """A classifier of pictures in float32 for iOS 16, as people convert by hand."""
    import coremltools as ct

    traced = torch.jit.trace(nn.Sequential(model, nn.Softmax(dim=1)).eval(), example)
    converted = ct.convert(
        traced,
        inputs=[ct.ImageType(name="image", shape=tuple(example.shape), scale=1 / 255, color_layout="G")],
        classifier_config=ct.ClassifierConfig([str(digit) for digit in range(10)]),
        minimum_deployment_target=ct.target.iOS16,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    shutil.rmtree(path, ignore_errors=True)
    converted.save(str(path))


if __name__ == "__main__":
    main()
