"""Small event recordings in the true formats of the published data sets."""

import struct

import h5py
import numpy as np

GESTURES = 11


def recording(rng, width, height, start=0):
    """Events (time, x, y, polarity), sorted by time; times in microseconds, fewer than 2²³."""
    count = int(rng.integers(12, 30))
    times = np.sort(rng.choice(300_000, count, replace=False)) + start
    return [(int(time), int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(2))) for time in times]


# What the archives hold, byte by byte.


def write_atis(path, events):
    """40 bits an event: x, y, polarity, and 23 bits of time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"".join(
            bytes([x, y, polarity << 7 | time >> 16, time >> 8 & 255, time & 255]) for time, x, y, polarity in events
        )
    )


def write_aedat_2(path, events):
    """32-bit addresses and times, most significant byte first; the sensor's axes are turned and its ON is a 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = b"".join(
        struct.pack(">II", (127 - x) << 8 | (127 - y) << 1 | (1 - polarity), time) for time, x, y, polarity in events
    )
    path.write_bytes(b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n# Timestamps tick is 1 us\r\n" + body)


def write_aedat_3(path, events):
    """Packets of a 28-byte header and 8-byte polarity events, least significant byte first; others lie between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n")
        file.write(struct.pack("<HHIIIIII", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8))
        for begin in range(0, len(events), 7):
            packet = events[begin : begin + 7]
            file.write(struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, len(packet), len(packet), len(packet)))
            for time, x, y, polarity in packet:
                file.write(struct.pack("<II", x << 17 | y << 2 | polarity << 1 | 1, time))


def write_n_mnist(root, *, train=4, test=2):
    rng, written = np.random.default_rng(0), {"train": [], "test": []}
    for part, count in (("train", train), ("test", test)):
        for label in range(2):
            for index in range(count):
                events = recording(rng, 34, 34)
                write_atis(root / "extract" / part.title() / str(label) / f"{index:05}.bin", events)
                written[part].append((events, label))
    return written


def write_cifar10_dvs(root, *, each=4):
    from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS_CLASS_NAMES

    rng, written = np.random.default_rng(1), {"all": []}
    for label, name in enumerate(CIFAR10DVS_CLASS_NAMES):
        for index in range(each):
            events = recording(rng, 128, 128)
            write_aedat_2(root / "extract" / name / f"cifar10_{name}_{index}.aedat", events)
            written["all"].append((events, label))
    return written


def write_dvs128_gesture(root):
    """Two users for training and one for testing, each with every gesture, and events between the gestures."""
    rng, written = np.random.default_rng(2), {"train": [], "test": []}
    folder = root / "extract" / "DvsGesture"
    # SpikingJelly numbers the classes by the names of their folders.
    order = sorted(str(gesture) for gesture in range(GESTURES))
    for user, part in (("user01_led", "train"), ("user02_lab", "train"), ("user24_led", "test")):
        everything, lines = [], ["class,startTime_usec,endTime_usec"]
        for gesture in range(GESTURES):
            start = 1_000_000 * (gesture + 1)
            events = recording(rng, 128, 128, start)
            everything += [*events, (start + 500_000, 0, 0, 1)]
            lines.append(f"{gesture + 1},{start},{start + 400_000}")
            written[part].append((events, order.index(str(gesture))))
        write_aedat_3(folder / f"{user}.aedat", everything)
        (folder / f"{user}_labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "trials_to_train.txt").write_text("user01_led.aedat\nuser02_lab.aedat\n")
    (folder / "trials_to_test.txt").write_text("user24_led.aedat\n")
    return written


def write_n_caltech101(root, *, each=4):
    rng, written = np.random.default_rng(3), {"all": []}
    for label, name in enumerate(("accordion", "airplanes", "yin_yang")):
        for index in range(each):
            events = recording(rng, 240, 180)
            write_atis(root / "extract" / "Caltech101" / name / f"image_{index:04}.bin", events)
            written["all"].append((events, label))
    return written


def write_recordings(path, count, seed):
    """As published: half-precision seconds and channels as lists of their own length. Returns (labels, recordings)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(20), count)
    rng.shuffle(labels)
    recordings = []
    for _ in labels:
        spikes = rng.integers(20, 60)
        recordings.append(
            (np.sort(rng.random(spikes)).astype(np.float16), rng.integers(0, 700, spikes).astype(np.uint16))
        )
    with h5py.File(path, "w") as file:
        file["labels"] = labels.astype(np.uint16)
        times = file.create_dataset("spikes/times", len(labels), dtype=h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", len(labels), dtype=h5py.vlen_dtype(np.uint16))
        for index, (time, unit) in enumerate(recordings):
            times[index], units[index] = time, unit
    return labels, recordings
