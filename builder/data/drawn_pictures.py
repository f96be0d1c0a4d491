"""Pictures that no photograph is: one colour, lines of text, gradients, fine patterns; all of them are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dogs",
    "while",
    "seven",
    "wizards",
    "mix",
    "vexing",
    "potions",
    "0123456789",
    "Invoice",
    "total:",
    "1,204.50",
    "Name",
    "Date",
    "Signature",
    "page",
    "of",
    "contents",
    "How",
    "long",
    "is",
    "it?",
    "Please",
    "call",
    "+1",
    "(555)",
    "010-7788",
    "before",
    "9:30.",
    "Exit",
    "Open",
    "Closed",
]

Drawing = Callable[[tuple[int, int], np.random.Generator], Image.Image]


def _plain(level: int) -> Drawing:
    return lambda size, _: Image.new("RGB", size, (level, level, level))


def text_page(size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    """An RGB page of `size` (width, height): dark words in lines of drawn height on light paper."""
    width, height = size
    paper, ink = int(generator.integers(200, 256)), int(generator.integers(0, 80))
    page = Image.new("RGB", size, (paper, paper, paper))
    pen = ImageDraw.Draw(page)
    largest = max(9, min(48, height // 4))
    top = max(0, height // 20)
    while top < height:
        points = int(generator.integers(8, largest + 1))
        font, left = ImageFont.load_default(points), max(1, width // 20)
        while left < width:
            word = WORDS[int(generator.integers(len(WORDS)))]
            pen.text((left, top), word, fill=(ink, ink, ink), font=font)
            left += int(pen.textlength(word, font=font)) + max(2, points // 3)
        top += points + max(2, points // 2)
    return page


def text_line(size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    """An RGB line of words of `size` (width, height), as a recogniser of text gets it: the words fill the height."""
    width, height = size
    paper, ink = int(generator.integers(180, 256)), int(generator.integers(0, 100))
    line = Image.new("RGB", size, (paper, paper, paper))
    pen = ImageDraw.Draw(line)
    font, left = ImageFont.load_default(max(6, round(height * 0.7))), max(1, height // 8)
    while left < width * 0.9:
        word = WORDS[int(generator.integers(len(WORDS)))]
        pen.text((left, height // 10), word, fill=(ink, ink, ink), font=font)
        left += int(pen.textlength(word + " ", font=font))
    return line


def _gradient(size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    """From black to one colour, in a drawn direction."""
    width, height = size
    angle = generator.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * np.linspace(-1, 1, width)[None] + np.sin(angle) * np.linspace(-1, 1, height)[:, None]
    slope = (slope - slope.min()) / max(float(np.ptp(slope)), 1e-9)
    colour = generator.integers(128, 256, size=3)
    return Image.fromarray((slope[..., None] * colour).astype(np.uint8))


def _checkered(size: tuple[int, int], _: np.random.Generator) -> Image.Image:
    width, height = size
    cells = (np.indices((height, width)).sum(0) % 2 * 255).astype(np.uint8)
    return Image.fromarray(np.repeat(cells[..., None], 3, axis=2))


def _saturated(size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    """Each level of each pixel is 0 or 255."""
    return Image.fromarray(generator.integers(0, 2, size=(size[1], size[0], 3), dtype=np.uint8) * np.uint8(255))


PICTURES: Mapping[str, Drawing] = {
    "white": _plain(255),
    "black": _plain(0),
    "text": text_page,
    "gradient": _gradient,
    "saturated noise": _saturated,
    "chequered": _checkered,
    "grey": _plain(128),
}
"""By what they are called in reports, those that find most first."""
