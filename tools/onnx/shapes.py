#!/usr/bin/env python3
"""Draws the pictures of testdata/images: four kinds of shapes, in a folder each.

    shapes.py OUT_DIR

OUT_DIR/train and OUT_DIR/val get 14 and 6 pictures of each kind, PNG files of
40 x 40 pixels. Place, size, turn and colors are random, from a fixed seed.
"""
import io
import math
import pathlib
import sys

import numpy as np
from PIL import Image, ImageDraw

LABELS = ("circle", "cross", "square", "triangle")
EDGE, FINE = 40, 4  # drawn larger, then made smaller: smooth edges


def draw(label, number):
    r = np.random.default_rng((LABELS.index(label), number))
    back, front = r.integers(0, 90, 3), r.integers(150, 256, 3)
    if r.random() < .3:
        back, front = front, back
    image = Image.new("RGB", (EDGE * FINE, EDGE * FINE), tuple(map(int, back)))
    pen = ImageDraw.Draw(image)
    radius = r.uniform(8, 13) * FINE
    x, y = (r.uniform(15, EDGE - 15) * FINE for _ in range(2))
    turn = r.uniform(-.25, .25)
    color = tuple(map(int, front))
    def corners(angles, far):
        return [(x + far * math.cos(a + turn), y + far * math.sin(a + turn)) for a in angles]
    if label == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    elif label == "square":
        pen.polygon(corners([math.pi * (k / 2 + .25) for k in range(4)], radius * 1.2), fill=color)
    elif label == "triangle":
        pen.polygon(corners([math.pi * (2 * k / 3 - .5) for k in range(3)], radius * 1.25), fill=color)
    else:
        for along in (0, math.pi / 2):
            pen.line(corners([along, along + math.pi], radius * 1.2), fill=color, width=int(radius * .5))
    return image.resize((EDGE, EDGE), Image.Resampling.BOX)


def png(label, number):
    b = io.BytesIO()
    draw(label, number).quantize(16).save(b, "PNG", optimize=True)
    return b.getvalue()


def main():
    out = pathlib.Path(sys.argv[1])
    for label in LABELS:
        for number in range(20):
            folder = out / ("train" if number < 14 else "val") / label
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:02}.png").write_bytes(png(label, number))


if __name__ == "__main__":
    main()
