"""Inputs as apps give them, made without a download: speech-like sound, chords, lines and pages of text, files."""

from __future__ import annotations

import io
import json
import sys
import wave
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

RATE = 16_000


def speech(samples: int, seed: int) -> np.ndarray:
    """Vowels with breaths between: pulses of a voice through three formants each, float32 (samples,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    pitch = 110 + 60 * rng.random() + 15 * np.sin(2 * np.pi * 2.3 * time + seed)
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0.0)
    out, start = np.zeros(samples), 0
    while start < samples:
        length = int(RATE * rng.uniform(0.12, 0.35))
        part = slice(start, min(start + length, samples))
        if rng.random() < 0.75:
            out[part] = _formants(pulses[part] + rng.normal(0, 0.01, pulses[part].size), rng)
        start += length
    noise = rng.normal(0, 10 ** rng.uniform(-4, -2.5), samples)
    return (0.4 * out / (np.abs(out).max() + 1e-9) + noise).astype(np.float32)


def _formants(source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(source)
    frequency = np.fft.rfftfreq(source.size, 1 / RATE)
    gain = sum(
        1 / (1 + ((frequency - rng.uniform(low, high)) / width) ** 2)
        for low, high, width in ((250, 900, 60), (900, 2300, 90), (2300, 3200, 120))
    )
    shaped: np.ndarray = np.fft.irfft(spectrum * gain, source.size) * np.hanning(source.size)
    return shaped


def log_mel(sound: np.ndarray, bins: int, window: int, hop: int) -> np.ndarray:
    """The logarithm of the energy in triangular bands, each with mean 0 and deviation 1, float32 (bins, frames)."""
    frames = np.stack([sound[n : n + window] * np.hanning(window) for n in range(0, sound.size - window + 1, hop)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    mel = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), bins + 2)
    edges = 700 * (10 ** (mel / 2595) - 1) * window / RATE
    at = np.arange(power.shape[1])
    bands = [np.interp(at, edges[n : n + 3], [0, 1, 0]) for n in range(bins)]
    energy = np.log(np.stack(bands) @ power.T + 1e-5)
    scaled: np.ndarray = (energy - energy.mean(1, keepdims=True)) / (energy.std(1, keepdims=True) + 1e-5)
    return scaled.astype(np.float32)


def chord(samples: int, rate: int, frequencies: list[float]) -> np.ndarray:
    """Plucked strings with four overtones, float32 (samples,)."""
    time = np.arange(samples) / rate
    notes = [np.sin(2 * np.pi * f * k * time) / k for f in frequencies for k in (1, 2, 3, 4)]
    return (0.25 / len(frequencies) * sum(notes) * np.exp(-1.5 * time)).astype(np.float32)


def line_of_text(text: str, size: tuple[int, int]) -> Image.Image:
    """Black on a light ground, as a photograph of a page has it; RGB."""
    picture = Image.new("RGB", size, (236, 233, 226))
    font = ImageFont.load_default(size=size[1] * 0.5)
    ImageDraw.Draw(picture).text((size[1] // 4, size[1] * 0.2), text, fill=(25, 25, 30), font=font)
    return picture


def page_of_text(lines: list[str], size: tuple[int, int], height: int) -> Image.Image:
    """Lines below each other; RGB."""
    picture = Image.new("RGB", size, (244, 242, 238))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=height)
    for number, text in enumerate(lines):
        pen.text((30, 30 + number * int(height * 1.8)), text, fill=(20, 20, 20), font=font)
    return picture


def some_files() -> dict[str, bytes]:
    """Contents of files of many types, by a name."""
    picture = page_of_text(["Hello"], (200, 100), 20)
    images = {name: io.BytesIO() for name in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "pdf")}
    for name, buffer in images.items():
        picture.save(buffer, format=name)
    sound, archive = io.BytesIO(), io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((speech(RATE, 0) * 30_000).astype("<i2").tobytes())
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("a.txt", "some text\n" * 40)
    rows = "".join(f"{n},{n * n},{n % 7}\n" for n in range(200))
    html = (
        "<!DOCTYPE html><html><head><title>A page</title></head><body>" + "<p>Some words.</p>" * 30 + "</body></html>"
    )
    here = Path(__file__)
    return {
        **{name: buffer.getvalue() for name, buffer in images.items()},
        "wav": sound.getvalue(),
        "zip": archive.getvalue(),
        "python": here.read_bytes(),
        "yaml": (here.parent / "recipes/magika.yaml").read_bytes() * 4,
        "json": json.dumps({"name": [1, 2, {"deep": None}]}, indent=1).encode() * 1,
        "csv": b"number,square,rest\n" + rows.encode(),
        "html": html.encode(),
        "elf": Path(sys.executable).resolve().read_bytes()[:200_000],
        "shell": b'#!/bin/sh\nset -e\nfor f in *.txt; do\n  echo "$f"\ndone\n' * 6,
        "empty lines": b"\n" * 50,
        "noise": np.random.default_rng(1).integers(0, 256, 4096, dtype=np.uint8).tobytes(),
    }
