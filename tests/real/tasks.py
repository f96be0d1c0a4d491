"""What each model is for: its inputs as apps give them, the original's answer, and whether two answers are the same."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.real.inputs import RATE, chord, line_of_text, log_mel, page_of_text, some_files, speech

Given = Mapping[str, Any]
"""One sample, by input: an array, or a picture."""
Answer = Mapping[str, np.ndarray]
Original = Callable[[Given], Answer]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A recipe of `recipes/`, judged."""

    what: str
    """What two equal answers have in common, for people."""
    samples: Callable[[], Sequence[Given]]
    original: Callable[[Path], Original]
    """Loads the original from the project's folder, without anything of ours."""
    same: Callable[[Answer, Answer], bool]
    writes_data: bool = False
    """Whether the recipe checks on these samples, in `data/NAME.npz`."""


def by_onnx(
    file: str, names: Mapping[str, str], prepared: Callable[[Given], Given] = dict
) -> Callable[[Path], Original]:
    """onnxruntime; `names` are the file's own, by the recipe's."""

    def load(project: Path) -> Original:
        import onnxruntime

        session = onnxruntime.InferenceSession(project / "files" / file)
        outputs = [output.name for output in session.get_outputs()]

        def run(given: Given) -> Answer:
            results = session.run(None, {names.get(name, name): value for name, value in prepared(given).items()})
            return {_feature(name): value for name, value in zip(outputs, results, strict=True)}

        return run

    return load


def _feature(name: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name)


def by_torch(module: str, kind: str, file: str, prepared: Callable[[Given], Given] = dict, **arguments: Any) -> Any:
    """The package's own class, with its weights."""

    def load(project: Path) -> Original:
        sys.path.insert(0, str(project))
        try:
            made = getattr(importlib.import_module(module), kind)(**arguments)
        finally:
            sys.path.remove(str(project))
        made.load_state_dict(torch.load(project / "files" / file, weights_only=True))
        made.eval()

        def run(given: Given) -> Answer:
            with torch.no_grad():
                returned = made(*(torch.from_numpy(value) for value in prepared(given).values()))
            outputs = returned if isinstance(returned, tuple) else (returned,)
            return {str(number): output.numpy() for number, output in enumerate(outputs)}

        return run

    return load


def _bgr(given: Given) -> Given:
    levels = np.asarray(given["x"], dtype=np.float32)[..., ::-1].transpose(2, 0, 1)[None]
    return {"x": np.ascontiguousarray(levels / 255 - 0.5) / np.float32(0.5)}


def _faces(given: Given) -> Given:
    levels = np.asarray(given["x"], dtype=np.float32).transpose(2, 0, 1)[None]
    return {"x": np.ascontiguousarray((levels - 127.5) * np.float32(0.0078125))}


def _magika() -> list[Given]:
    found = []
    for content in some_files().values():
        first, last = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
        ids = [*first, *[256] * (1024 - len(first)), *[256] * (1024 - len(last)), *last]
        found.append({"bytes": np.array([ids], dtype=np.int32)})
    return found


def _music() -> list[Given]:
    chords = [[440.0], [261.6, 329.6, 392.0], [220.0, 440.0, 880.0], [110.0], [523.0, 659.0, 784.0], [98.0, 196.0]]
    sounds = [chord(43844, 22050, each) for each in chords]
    return [{"serving_default_input_2_0": sound[None, :, None]} for sound in (*sounds, np.zeros(43844, np.float32))]


def photographs(count: int, size: tuple[int, int]) -> list[Given]:
    rng, pictures = np.random.default_rng(0), [Image.fromarray(each) for each in load_sample_images().images]
    found = []
    for number in range(count):
        picture = pictures[number % 2]
        side = int(rng.integers(size[1], 300))
        left, top = (int(rng.integers(0, most - side)) for most in picture.size)
        found.append({"x": picture.crop((left, top, left + side, top + side)).resize(size)})
    return found


_LINES = ["Invoice 2024-117", "The quick brown fox", "Total: 1,249.50", "ISO 9001:2015", "hello@example.org", "No. 42"]


def _frames() -> list[Given]:
    zeros = np.zeros((1, 1, 128), np.float32)
    found = []
    for seed in range(3):
        sound = np.concatenate([np.zeros(64, np.float32), speech(32 * 512, seed)])
        frames = np.stack([sound[n * 512 : n * 512 + 576] for n in range(32)])
        found.append({"input": frames, "h": zeros, "c": zeros})
    return found


def _pitched() -> list[Given]:
    tones = [chord(1024, RATE, [frequency])[None] for frequency in (82.4, 110, 196, 247, 330, 440, 660, 880)]
    frames = [*tones, *(speech(9000, seed)[4000:5024][None] for seed in range(4))]
    return [{"x": (f - f.mean()) / max(float(f.std()), 1e-10)} for f in frames]


def _windows() -> list[Given]:
    """Frames of 36 ms at a vowel or a break, with what a model carries at its beginning."""
    return [
        {"input": speech(6000, seed)[3000:3576][None], "state_input": np.zeros((2, 1, 128), np.float32)}
        for seed in range(8)
    ]


def _windows_of_v6() -> list[Given]:
    zeros = np.zeros((1, 1, 128), np.float32)
    return [{"input": given["input"], "h": zeros, "c": zeros} for given in _windows()]


def _mels() -> list[Given]:
    noise = np.random.default_rng(0).normal(0, 0.01, (4, 3200))
    return [{"log_mel": log_mel(sound, 64, 400, 140)[None]} for sound in (*(speech(3200, s) for s in range(4)), *noise)]


_ARABIC = [
    [24, 47, 36, 47, 24, 48, 1, 42, 47, 53, 46, 48],
    [46, 27, 25, 1, 24, 47, 51, 47, 32, 1, 24, 47, 32, 34, 36],
    [48, 34, 30, 25, 24, 1, 25, 24, 47, 42, 24, 47, 48],
    [24, 47, 42, 47, 48, 1, 49, 51, 34, 1, 51, 24, 47, 29, 50, 47],
    [25, 36, 48, 1, 24, 47, 47, 50, 1, 24, 47, 34, 30, 48, 49],
]
"""Greetings and sayings, as libtashkeel numbers their letters."""


def _arabic() -> list[Given]:
    """Padded to 16 letters, with their true lengths."""
    return [
        {
            "char_inputs": np.array([[*ids, *[0] * (16 - len(ids))]], np.int32),
            "diac_inputs": np.zeros((1, 16), np.int32),
            "input_lengths": np.array([len(ids)], np.int32),
        }
        for ids in _ARABIC
    ]


def _hebrew() -> list[Given]:
    """Words of letters (from 16 on) between spaces (4), as Nakdimon numbers them."""
    rng = np.random.default_rng(0)
    return [
        {"input_1": np.where(np.arange(24) % 6 == 5, 4, rng.integers(16, 43, 24))[None].astype(np.float32)}
        for _ in range(5)
    ]


def _levels_bgr(given: Given) -> Given:
    return {"image": np.asarray(given["image"], dtype=np.float32)[..., ::-1].transpose(2, 0, 1)[None].copy()}


def _centred() -> list[Given]:
    means = np.array([104, 117, 123], np.float32)
    return [
        {"input_0": np.asarray(each["x"], dtype=np.float32)[None, ..., ::-1] - means}
        for each in photographs(4, (224, 224))
    ]


def _with_rate(given: Given) -> Given:
    return {**given, "sr": np.array(RATE, np.int64)}


def _wide(given: Given) -> Given:
    return {name: value.astype(np.int64) for name, value in given.items()}


def all_best(one: Answer, other: Answer) -> bool:
    """The same best class along the last axis, in every output that has some."""
    several = [name for name in one if one[name].ndim and one[name].shape[-1] > 1]
    return all(bool((one[name].argmax(-1) == other[name].argmax(-1)).all()) for name in several)


def first(answer: Answer) -> np.ndarray:
    return next(iter(answer.values()))


def _best(one: Answer, other: Answer) -> bool:
    """The same best class, along the last axis, everywhere."""
    return bool((first(one).argmax(-1) == first(other).argmax(-1)).all())


def _text(one: Answer, other: Answer) -> bool:
    """The same characters, as CTC reads them: each run of the best class once, without blanks (class 0)."""

    def read(answer: Answer) -> list[int]:
        best = first(answer)[0].argmax(-1)
        return [int(c) for n, c in enumerate(best) if c and (n == 0 or c != best[n - 1])]

    return read(one) == read(other)


def near(tolerance: float) -> Callable[[Answer, Answer], bool]:
    return lambda one, other: all(float(np.abs(one[name] - other[name]).max()) <= tolerance for name in one)


def _mask(threshold: float, share: float) -> Callable[[Answer, Answer], bool]:
    """The same places over a threshold, in all outputs, but for their edges."""

    def same(one: Answer, other: Answer) -> bool:
        for name in one:
            mine, theirs = one[name] > threshold, other[name] > threshold
            if (mine & theirs).sum() < share * (mine | theirs).sum():
                return False
        return True

    return same


_MUSIC = {"serving_default_input_2_0": "serving_default_input_2:0"}
TASKS: dict[str, Task] = {
    "magika": Task(
        what="the same type of file",
        samples=_magika,
        original=by_onnx("magika.onnx", {}),
        same=_best,
        writes_data=True,
    ),
    "basic_pitch": Task(
        what="notes, onsets and contours over 0.5, 97 % of them the same",
        samples=_music,
        original=by_onnx("nmp.onnx", _MUSIC),
        same=_mask(0.5, 0.97),
        writes_data=True,
    ),
    "dnsmos": Task(
        what="scores of 1 to 5 within 0.05",
        samples=lambda: [{"input_1": speech(144160, seed)[None]} for seed in range(4)],
        original=by_onnx("dnsmos.onnx", {}),
        same=near(0.05),
        writes_data=True,
    ),
    "silero_sequence": Task(
        what="probabilities of speech within 0.03",
        samples=_frames,
        original=by_onnx("silero_sequence.onnx", {}),
        same=lambda one, other: near(0.03)({"p": first(one)}, {"p": first(other)}),
    ),
    "ocr_det": Task(
        what="the same places of text (over 0.3), 97 % of the pixels",
        samples=lambda: [{"x": page_of_text(_LINES[n:], (480, 320), 18 + 4 * n)} for n in range(4)],
        original=by_onnx("ocr_det.onnx", {}, _bgr),
        same=_mask(0.3, 0.97),
    ),
    "ocr_rec": Task(
        what="the same text",
        samples=lambda: [{"x": line_of_text(text, (320, 48))} for text in _LINES],
        original=by_onnx("ocr_rec.onnx", {}, _bgr),
        same=_text,
    ),
    "ocr_cls": Task(
        what="the same way up",
        samples=lambda: [{"x": line_of_text(text, (192, 48)).rotate(turn)} for text in _LINES[:4] for turn in (0, 180)],
        original=by_onnx("ocr_cls.onnx", {}, _bgr),
        same=_best,
    ),
    "crepe_tiny": Task(
        what="the same pitch, to one bin of 20 cents",
        samples=_pitched,
        original=by_torch("crepe_model", "Crepe", "crepe_tiny.pth", model="tiny"),
        same=lambda one, other: abs(int(first(one).argmax()) - int(first(other).argmax())) <= 1,
        writes_data=True,
    ),
    "mtcnn_pnet": Task(
        what="boxes and probabilities within 0.03",
        samples=lambda: photographs(4, (128, 128)),
        original=by_torch("mtcnn_model", "PNet", "pnet.pt", _faces, pretrained=False),
        same=near(0.03),
    ),
    "silero_half": Task(
        what="probabilities of speech and states within 0.03",
        samples=_windows,
        original=by_onnx("silero_half.onnx", {"state_input": "state"}),
        same=near(0.03),
    ),
    "silero_ifless": Task(
        what="probabilities of speech and states within 0.03",
        samples=_windows,
        original=by_onnx("silero_ifless.onnx", {"state_input": "state"}, _with_rate),
        same=near(0.03),
    ),
    "silero_v6": Task(
        what="probabilities of speech and states within 0.03",
        samples=_windows_of_v6,
        original=by_onnx("silero_v6.onnx", {}),
        same=near(0.03),
    ),
    "pulsevad": Task(
        what="speech or not",
        samples=_mels,
        original=by_onnx("pulsevad.onnx", {}),
        same=_best,
    ),
    "captcha": Task(
        what="the same characters, at every place",
        samples=lambda: [{"image": line_of_text(text, (160, 60))} for text in ("A7K2P", "9Q4Z", "hello", "TX81")],
        original=by_onnx("captcha.onnx", {}, _levels_bgr),
        same=_best,
    ),
    "open_nsfw": Task(
        what="probabilities within 0.01",
        samples=_centred,
        original=by_onnx("open_nsfw.onnx", {"input_0": "input:0"}),
        same=near(0.01),
    ),
    "tashkeel": Task(
        what="the same signs",
        samples=_arabic,
        original=by_onnx("tashkeel.onnx", {}, _wide),
        same=all_best,
    ),
    "nakdimon": Task(
        what="the same signs",
        samples=_hebrew,
        original=by_onnx("nakdimon.onnx", {}),
        same=all_best,
    ),
    "mtcnn_rnet": Task(
        what="boxes and probabilities within 0.03",
        samples=lambda: photographs(6, (24, 24)),
        original=by_torch("mtcnn_model", "RNet", "rnet.pt", _faces, pretrained=False),
        same=near(0.03),
    ),
}
