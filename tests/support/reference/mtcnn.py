"""MTCNN from its description, in float64, one picture, one cell and one box at a time.

Independent of the package: Python loops and torch's functional convolutions in double precision.
Coordinates are 1-based, as in the original.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

MIRRORED = [1, 0, 2, 4, 3]


def resample_axis(line, size):
    """One axis of imResample: `line` of shape (N, ...) to (size, ...)."""
    n, out = len(line), []
    for j in range(size):
        if n > size:
            start, end = j * n / size, (j + 1) * n / size
            taps = range(math.floor(start), min(math.ceil(end), n))
            shares = {i: min(end, i + 1) - max(start, i) for i in taps}
            shares = {i: share for i, share in shares.items() if share > 1e-3}
            scale = max(sum(shares.values()), n / size)
            out.append(sum(share / scale * line[i] for i, share in shares.items()))
        else:
            centre = min(max((j + 0.5) * n / size - 0.5, 0), n - 1)
            low = math.floor(centre)
            high = min(low + 1, n - 1)
            out.append((1 - centre + low) * line[low] + (centre - low) * line[high])
    return np.array(out)


def resample(image, height, width):
    rows = resample_axis(np.asarray(image, float), height)
    return resample_axis(rows.swapaxes(0, 1), width).swapaxes(0, 1) / (1 + 1e-6)


def blob(image):
    """What a net sees of a picture: transposed, normalised."""
    return torch.from_numpy(((image - 127.5) * 0.0078125).transpose(2, 1, 0)[None].copy())


def run(weights, x, spec):
    """Convolutions, PReLUs and ceil poolings in the order of `spec`; returns the blobs by name."""
    blobs = {}
    prelu = 0
    slopes = [name for name in weights if name.lower().startswith("prelu")]
    for step in spec.split():
        if step.startswith("pool"):
            x = F.max_pool2d(x, int(step[4]), 2, ceil_mode=True)
            continue
        name, _, source = step.partition("<")
        x = blobs[source] if source else x
        kernel, bias = (torch.from_numpy(np.asarray(a, float)) for a in weights[name])
        dense = kernel.dim() == 2
        x = F.linear(x.flatten(1), kernel, bias) if dense else F.conv2d(x, kernel, bias)
        if not source:
            slope = torch.from_numpy(np.asarray(weights[f"{slopes[prelu][:5]}{prelu + 1}"], float))
            x = F.prelu(x, slope.flatten())
            prelu += 1
        blobs[name] = x
    return {name: value.numpy() for name, value in blobs.items()}


SPECS = {
    "det1": "conv1 pool2 conv2 conv3 conv4-1<conv3 conv4-2<conv3",
    "det2": "conv1 pool3 conv2 pool3 conv3 conv4 conv5-1<conv4 conv5-2<conv4",
    "det3": "conv1 pool3 conv2 pool3 conv3 pool2 conv4 conv5 conv6-1<conv5 conv6-2<conv5 "
    "conv6-3<conv5",
}


def face_probability(logits):
    """The second of two softmax classes."""
    return 1 / (1 + np.exp(logits[0, 0] - logits[0, 1]))


def overlap(a, b, measure):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return shared / (min(areas) if measure == "min" else sum(areas) - shared)


def suppress(entries, threshold, measure="union", key="box"):
    """Entries are dicts with a box and a score; of equal scores the later goes first."""
    left = list(reversed(entries))
    left.sort(key=lambda entry: -entry["score"])
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [e for e in left if overlap(best[key], e[key], measure) <= threshold]
    return kept


def regress(box, offsets, plus):
    width, height = box[2] - box[0] + plus, box[3] - box[1] + plus
    return [
        box[0] + offsets[0] * width,
        box[1] + offsets[1] * height,
        box[2] + offsets[2] * width,
        box[3] + offsets[3] * height,
    ]


def square(box):
    width, height = box[2] - box[0], box[3] - box[1]
    side = max(width, height)
    x, y = box[0] + width / 2 - side / 2, box[1] + height / 2 - side / 2
    return [math.trunc(value) for value in (x, y, x + side, y + side)]


def cut(image, box, size):
    """The box out of the picture, zeros around it, resampled."""
    x1, y1, x2, y2 = (int(v) for v in box)
    out = np.zeros((y2 - y1 + 1, x2 - x1 + 1, 3))
    for y in range(max(y1, 1), min(y2, image.shape[0]) + 1):
        for x in range(max(x1, 1), min(x2, image.shape[1]) + 1):
            out[y - y1, x - x1] = image[y - 1, x - 1]
    return resample(out, size, size)


def proposals(weights, image, min_size, factor, threshold):
    height, width = image.shape[:2]
    scale, everything = 12 / min_size, []
    side = min(height, width) * scale
    level = 0
    while side >= 12:
        s = scale * factor**level
        small = resample(image, math.ceil(height * s), math.ceil(width * s))
        blobs = run(weights["det1"], blob(small), SPECS["det1"])
        score, offsets = face_probability(blobs["conv4-1"]), blobs["conv4-2"][0]
        found = []
        for y in range(score.shape[1]):
            for x in range(score.shape[0]):
                if score[x, y] >= threshold:
                    corners = 2 * x + 1, 2 * y + 1, 2 * x + 12, 2 * y + 12
                    box = [math.trunc(c / s) for c in corners]
                    found.append({"box": box, "score": score[x, y], "move": offsets[:, x, y]})
        everything += suppress(found, 0.5)
        side *= factor
        level += 1
    kept = suppress(everything, 0.7)
    return [square(regress(entry["box"], entry["move"], 0)) for entry in kept]


def detect(weights, image, min_size=20, factor=0.85, thresholds=(0.6, 0.7, 0.9)):
    """Return [(box, score, landmarks of shape (5, 2))], 1-based, best first."""
    squares = proposals(weights, image, min_size, factor, thresholds[0])
    passed = []
    for box in squares:
        blobs = run(weights["det2"], blob(cut(image, box, 24)), SPECS["det2"])
        score = face_probability(blobs["conv5-1"])
        if score > thresholds[1]:
            passed.append({"box": box, "score": score, "move": blobs["conv5-2"][0]})
    squares = [square(regress(e["box"], e["move"], 1)) for e in suppress(passed, 0.7)]
    passed = []
    for box in squares:
        crop = cut(image, box, 48)
        blobs = run(weights["det3"], blob(crop), SPECS["det3"])
        score = face_probability(blobs["conv6-1"])
        if score > thresholds[2]:
            mirrored = run(weights["det3"], blob(crop[:, ::-1]), SPECS["det3"])
            points = blobs["conv6-3"].reshape(2, 5).T
            other = mirrored["conv6-3"].reshape(2, 5).T[MIRRORED] * (-1, 1) + (1, 0)
            size = np.array([box[2] - box[0] + 1, box[3] - box[1] + 1])
            landmarks = (points + other) / 2 * size + box[:2] - 1
            final = regress(box, blobs["conv6-2"][0], 1)
            passed.append({"box": final, "score": score, "landmarks": landmarks})
    return [(np.array(e["box"]), e["score"], e["landmarks"]) for e in suppress(passed, 0.7, "min")]
