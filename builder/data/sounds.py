"""Synthesised sounds: speech-like, tones, chords, noise and silence, at the levels that recordings have."""

from __future__ import annotations

import numpy as np

from builder.data.stress import bounds
from builder.spec.inputs import TensorInput

KINDS = ("speech", "chord", "silence", "tone", "speech", "noise", "speech", "chord")
"""What the samples are, in turn."""

VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
"""Formants of vowels in Hz, of men: Peterson and Barney 1952, table II."""

MOST_HARMONICS = 40
BAND_SECONDS = 0.01
"""The time between two frames of a spectrogram."""


def draw_sound(
    given: TensorInput, shape: tuple[int, ...], index: int, rate: int, generator: np.random.Generator
) -> np.ndarray:
    """Return sounds of `shape` in the input's range, time along the last axis, at `rate` samples a second.

    Where two axes are longer than 1, as in (N, bands, frames) or (N, frames, bands), the longer one is time, and the
    logarithm of the energy in bands of a tenth of an octave is given, scaled to 0 mean and deviation 1 or to the
    input's range.
    """
    if sum(size > 1 for size in shape[-2:]) == 2:
        if shape[-2] <= shape[-1]:
            return _spectrogram(given, shape, index, rate, generator)
        turned = _spectrogram(given, (*shape[:-2], shape[-1], shape[-2]), index, rate, generator)
        return np.ascontiguousarray(np.swapaxes(turned, -1, -2))
    rows = [
        _waveform(KINDS[(index + row) % len(KINDS)], shape[-1], rate, generator)
        for row in range(int(np.prod(shape[:-1])))
    ]
    low, high = bounds(given)
    middle, reach = ((low + high) / 2, (high - low) / 2) if given.low is not None or given.high is not None else (0, 1)
    return (middle + reach * np.stack(rows)).reshape(shape).astype(given.dtype)


def _waveform(kind: str, length: int, rate: int, generator: np.random.Generator) -> np.ndarray:
    """(length,) from -1 to 1, at a drawn level."""
    time = np.arange(length) / rate
    level = 10 ** generator.uniform(-1.5, -0.1)
    match kind:
        case "silence":
            return np.zeros(length) if generator.random() < 0.5 else generator.standard_normal(length) * 1e-4
        case "noise":
            sound = generator.standard_normal(length) / 4
        case "tone":
            sound = np.sin(2 * np.pi * generator.uniform(60, rate / 4) * time)
        case "chord":
            root = 55 * 2 ** generator.uniform(0, 4)
            notes = [root * 2 ** (step / 12) for step in (0, int(generator.integers(3, 5)), 7)]
            decay = np.exp(-time * generator.uniform(0.5, 4))
            sound = decay * sum(np.sin(2 * np.pi * n * note * time) / n**2 for note in notes for n in (1, 2, 3)) / 4
        case _:
            sound = _speech(time, rate, generator)
    return np.asarray(np.clip(level * sound, -1, 1))


def _speech(time: np.ndarray, rate: int, generator: np.random.Generator) -> np.ndarray:
    """Voiced syllables with the formants of vowels, hisses between them, and pauses."""
    sound, start = np.zeros(len(time)), 0
    while start < len(time):
        stop = min(len(time), start + int(rate * generator.uniform(0.08, 0.3)))
        part = time[start:stop] - time[start]
        envelope = np.sin(np.pi * np.linspace(0, 1, len(part))) ** 0.5
        chance = generator.random()
        if chance < 0.6:
            sound[start:stop] = envelope * _vowel(part, rate, generator)
        elif chance < 0.8:
            hiss = np.diff(generator.standard_normal(len(part) + 1))
            sound[start:stop] = envelope * hiss * generator.uniform(0.02, 0.15)
        start = stop
    return sound / max(1e-9, float(np.abs(sound).max()))


def _vowel(time: np.ndarray, rate: int, generator: np.random.Generator) -> np.ndarray:
    pitch = generator.uniform(90, 260)
    formants = VOWELS[int(generator.integers(len(VOWELS)))]
    phase = 2 * np.pi * pitch * (time + 0.02 * np.sin(2 * np.pi * 4 * time) / (2 * np.pi * 4))
    voice = np.zeros(len(time))
    for harmonic in range(1, min(MOST_HARMONICS, int(rate / 2 / pitch)) + 1):
        frequency = harmonic * pitch
        gain = sum(1 / (1 + ((frequency - formant) / 90) ** 2) for formant in formants) + 0.02
        voice += gain * np.sin(harmonic * phase)
    return voice


def _spectrogram(
    given: TensorInput, shape: tuple[int, ...], index: int, rate: int, generator: np.random.Generator
) -> np.ndarray:
    bands, frames = shape[-2:]
    hop = max(1, int(rate * BAND_SECONDS))
    edges = np.geomspace(50, rate / 2, bands + 1)
    found = []
    for row in range(int(np.prod(shape[:-2]))):
        sound = _waveform(KINDS[(index + row) % len(KINDS)], hop * (frames + 4), rate, generator)
        windows = np.lib.stride_tricks.sliding_window_view(sound, 4 * hop)[: hop * frames : hop]
        power = np.abs(np.fft.rfft(windows * np.hanning(4 * hop))) ** 2
        places = np.searchsorted(np.fft.rfftfreq(4 * hop, 1 / rate), edges)
        total = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1)], axis=1)
        energy = total[:, np.maximum(places[1:], places[:-1] + 1).clip(max=total.shape[1] - 1)] - total[:, places[:-1]]
        found.append(np.log10(np.maximum(energy.T, 1e-10)))
    values = np.stack(found)
    values = np.maximum(values, values.max() - 8)
    low, high = bounds(given)
    if given.low is None and given.high is None:
        values = (values - values.mean()) / max(1e-6, float(values.std()))
    else:
        values = low + (values - values.min()) / max(1e-6, float(np.ptp(values))) * (high - low)
    return np.asarray(values.reshape(shape), dtype=given.dtype)
