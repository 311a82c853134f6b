#!/usr/bin/env python3
"""Writes pictures and what they must become, for the tests of internal/imageprep.

    pictures.py OUT.json

Needs Pillow before version 13, which changed the order of the passes of
resizing. Pictures are made, encoded, decoded and resized by Pillow; the other steps are
those of the image processors of transformers, in numpy. Each case has the
preprocessor_config.json and the values, float32 in base64.
"""
import base64
import io
import json
import math
import pathlib
import sys

import numpy as np
from PIL import Image

r = np.random.default_rng(3)


def scene(width, height, channels=3):
    """A smooth picture with edges and some noise."""
    y, x = np.mgrid[:height, :width]
    planes = [127 + 90 * np.sin(x / (3 + c) + c) * np.cos(y / (4 + c)) + 60 * ((x + c * y) % 17 > 9) - 30 for c in range(channels)]
    return np.clip(np.stack(planes, -1) + r.normal(0, 6, (height, width, channels)), 0, 255).astype(np.uint8)


def encoded(image, kind, **options):
    b = io.BytesIO()
    image.save(b, kind, **options)
    return b.getvalue()


def pictures():
    rgb, tall, wide = (Image.fromarray(scene(*s)) for s in ((37, 29), (9, 50), (61, 7)))
    smooth = Image.fromarray(np.asarray(Image.fromarray(scene(8, 6)).resize((45, 35), Image.Resampling.BICUBIC)))
    rgba = Image.fromarray(scene(20, 15, 4))
    gray = Image.fromarray(scene(20, 15, 1)[..., 0])
    out = {
        "rgb.png": encoded(rgb, "PNG"), "tall.png": encoded(tall, "PNG"), "wide.png": encoded(wide, "PNG"),
        "pixel.png": encoded(Image.new("RGB", (1, 1), (200, 100, 50)), "PNG"),
        "rgba.png": encoded(rgba, "PNG"), "gray.png": encoded(gray, "PNG"), "gray_alpha.png": encoded(rgba.convert("LA"), "PNG"),
        "palette.png": encoded(rgb.quantize(16), "PNG"), "bits.png": encoded(gray.convert("1"), "PNG"),
        "palette_alpha.png": encoded(rgb.quantize(16), "PNG", transparency=b"\x00\x80\xff"),
        "palette.gif": encoded(rgb.quantize(32), "GIF"),
        "frames.gif": encoded(rgb.quantize(8), "GIF", save_all=True, append_images=[rgb.transpose(Image.Transpose.ROTATE_180).quantize(8)]),
        "lossless.webp": encoded(rgb, "WEBP", lossless=True), "alpha.webp": encoded(rgba, "WEBP", lossless=True, exact=True),
        "lossy.webp": encoded(smooth, "WEBP", quality=90), "gray.jpg": encoded(gray, "JPEG", quality=90),
        "cmyk.jpg": encoded(smooth.convert("CMYK"), "JPEG", quality=95),
        "progressive.jpg": encoded(smooth, "JPEG", quality=90, progressive=True),
    }
    for name, n in (("444", 0), ("422", 1), ("420", 2)):
        out[f"{name}.jpg"] = encoded(smooth, "JPEG", quality=90, subsampling=n)
    exif = Image.Exif()
    exif[0x112] = 6  # turned by 90 degrees
    out["turned.jpg"] = encoded(smooth, "JPEG", quality=90, exif=exif)
    return out


def prepare(file, c):
    image = Image.open(io.BytesIO(file)).convert("RGB")
    if c.get("do_resize"):
        s = c["size"]
        if "shortest_edge" in s:
            w, h = image.size
            short, long = min(w, h), max(w, h)
            edges = s["shortest_edge"], int(s["shortest_edge"] * long / short)
            w, h = edges if w <= h else edges[::-1]
        else:
            w, h = s["width"], s["height"]
        image = image.resize((w, h), c["resample"])
    a = np.asarray(image)
    if c.get("do_center_crop"):
        ch, cw = c["crop_size"]["height"], c["crop_size"]["width"]
        h, w = a.shape[:2]
        big = np.zeros((max(ch, h), max(cw, w), 3), a.dtype)
        top, left = math.ceil((big.shape[0] - h) / 2), math.ceil((big.shape[1] - w) / 2)
        big[top:top + h, left:left + w] = a
        top, left = max(0, (h - ch) // 2 + top), max(0, (w - cw) // 2 + left)
        a = big[top:top + ch, left:left + cw]
    a = a.transpose(2, 0, 1)
    a = (a.astype(np.float64) * c["rescale_factor"]).astype(np.float32) if c.get("do_rescale") else a.astype(np.float32)
    if c.get("do_normalize"):
        mean, std = (np.array(c[k], np.float32)[:, None, None] for k in ("image_mean", "image_std"))
        a = (a - mean) / std
    return a


def main():
    files = pictures()
    cases = []
    def case(name, config):
        values = prepare(files[name], config)
        cases.append({"picture": name, "config": config, "shape": values.shape,
                      "values": base64.b64encode(values.astype("<f4").tobytes()).decode()})
    exact = {"do_resize": True, "do_center_crop": False, "do_rescale": False, "do_normalize": False}
    for name in files:  # as they are decoded, in a size that all but one crop
        w, h = Image.open(io.BytesIO(files[name])).size
        case(name, {"do_resize": False, "do_center_crop": True, "crop_size": {"height": min(h, 20), "width": min(w, 21)}, "do_rescale": False})
    for resample in range(6):
        for w, h in ((16, 12), (50, 40), (5, 29), (37, 3)):
            case("rgb.png", {**exact, "size": {"height": h, "width": w}, "resample": resample})
    clip = {"do_resize": True, "size": {"shortest_edge": 12}, "resample": 3, "do_center_crop": True, "crop_size": {"height": 12, "width": 12},
            "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711], "do_convert_rgb": True}
    vit = {"do_resize": True, "size": {"height": 14, "width": 14}, "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255,
           "do_normalize": True, "image_mean": [.5] * 3, "image_std": [.5] * 3}
    for name in ("rgb.png", "tall.png", "wide.png", "pixel.png", "rgba.png"):
        case(name, clip)
        case(name, vit)
    case("rgb.png", {**clip, "size": {"shortest_edge": 9}, "crop_size": {"height": 12, "width": 10}})
    case("rgb.png", {**clip, "size": {"shortest_edge": 9}, "crop_size": {"height": 7, "width": 16}})
    case("rgb.png", {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}, "do_rescale": True, "rescale_factor": 1 / 127.5})
    out = {"pictures": {n: base64.b64encode(f).decode() for n, f in files.items()}, "cases": cases}
    pathlib.Path(sys.argv[1]).write_text(json.dumps(out, indent=0) + "\n")


if __name__ == "__main__":
    main()
