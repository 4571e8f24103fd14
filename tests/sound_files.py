"""Recordings in the true format of the Free Spoken Digit Dataset, made here."""

import wave

import numpy as np

RATE_HZ = 8000
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def write_wav(file, samples, *, rate_hz=RATE_HZ):
    """Samples from -2 to 2, mono, 16 bits; larger ones are clipped."""
    with wave.open(str(file), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(rate_hz)
        recording.writeframes((np.asarray(samples) * 2**14).clip(-(2**15), 2**15 - 1).astype("<i2").tobytes())


def write_fsdd(root, *, each=2, digits=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), seconds=0.1):
    """``each`` recordings of every speaker and digit: a tone of the digit's pitch in noise."""
    folder = root / "recordings"
    folder.mkdir(parents=True)
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    for number, speaker in enumerate(SPEAKERS):
        for digit in digits:
            for index in range(each):
                noise = np.random.default_rng([number, digit, index]).standard_normal(len(time))
                tone = np.sin(2 * np.pi * (300 + 200 * digit + 20 * number) * time)
                write_wav(folder / f"{digit}_{speaker}_{index}.wav", 0.3 * tone + 0.02 * noise)
    return root
