"""The pitch of recordings: on files in the true format, made here, since recordings are not kept."""

import numpy as np
import pandas as pd
import pytest
from sound_files import write_wav

from benchmarks.evidence import speech
from benchmarks.evidence.speech import BINS, FRAMES, RATE, pitch, spectrogram, spoken
from bitsearch.data.sound import read_wav
from bitsearch.errors import InputError


def vowel(hertz, seconds=0.4, noise=0.01, seed=0):
    """Five harmonics, in silence and noise."""
    time = np.arange(int(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * k * hertz * time + k) / k for k in range(1, 6))
    samples = 0.2 * np.concatenate([np.zeros(400), tone, np.zeros(800)])
    return samples + noise * np.random.default_rng(seed).standard_normal(len(samples))


@pytest.mark.parametrize("hertz", [80, 110, 160, 240, 330])
def test_a_vowels_pitch_is_heard_to_a_lag_of_one_sample(hertz):
    # The period is a whole number of samples: half of one is the most that it is off.
    period = RATE / hertz
    assert RATE / (period + 0.75) <= pitch(vowel(hertz)) <= RATE / (period - 0.75)


def test_noise_has_no_pitch():
    assert pitch(np.random.default_rng(1).standard_normal(4000)) is None


def test_the_fundamental_stands_out_in_its_bin():
    magnitudes = spectrogram(vowel(250, noise=0.001))
    assert magnitudes.shape == (1, FRAMES, BINS)
    # A bin is 8000 / 512 Hz wide.
    assert magnitudes[0, 5].argmax() == 250 // (RATE / 512)


@pytest.fixture
def folder(tmp_path):
    for index in range(20):
        for speaker, low in (("ann", 180), ("bob", 90)):
            write_wav(tmp_path / f"3_{speaker}_{index}.wav", vowel(low + 4 * index, 0.3 + 0.01 * index, seed=index))
    write_wav(tmp_path / "3_ann_20.wav", np.random.default_rng(2).standard_normal(4000) / 4)
    return tmp_path


def test_parts_are_the_official_ones_and_the_target_is_in_octaves(folder):
    train, validation, test = spoken(folder)
    # The noise has no voiced frame, and is left out.
    assert [len(part) for part in (train, validation, test)] == [20, 10, 10]
    expected = np.log2(pitch(read_wav("speech", folder / "3_ann_0.wav", RATE)) / 100)
    assert test.tensors[1][0].item() == pytest.approx(expected, abs=1e-6)
    assert 0.8 < expected < 0.9


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, b"", "has 0 recordings with a voiced frame for training, 0 for validation and 0 for the test; give the"),
        ("notes.wav", b"", "notes.wav' is not named DIGIT_SPEAKER_INDEX.wav; give the folder of the recordings"),
        ("3_ann_0.wav", b"", "3_ann_0.wav' is no recording that can be read: it ends early"),
        (
            "3_ann_0.wav",
            b"<html>not found</html>",
            "3_ann_0.wav' is no recording that can be read: file does not start",
        ),
    ],
)
def test_a_wrong_folder_ends_with_one_line(name, content, message, tmp_path, monkeypatch, capsys):
    if name is not None:
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr("sys.argv", ["speech", "--recordings", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        speech.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_recordings_of_another_rate_are_named(tmp_path):
    write_wav(tmp_path / "3_ann_0.wav", vowel(200))
    content = bytearray((tmp_path / "3_ann_0.wav").read_bytes())
    content[24:28] = (16000).to_bytes(4, "little")
    (tmp_path / "3_ann_0.wav").write_bytes(content)
    with pytest.raises(InputError, match=r"has 1 channels of 16 bits at 16000 Hz, not 1 of 16 at 8000"):
        spoken(tmp_path)


@pytest.mark.training
def test_the_command_writes_errors_beside_the_best_uniform_plans(folder, tmp_path, monkeypatch, capsys):
    options = {"recordings": folder, "budget": "8x", "seeds": 1, "trials": 1, "epochs": 1, "full-precision-epochs": 2}
    options |= {"runs": tmp_path / "runs", "out": tmp_path / "out"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr("sys.argv", ["speech", *words])
    speech.main()
    (row,) = pd.read_csv(tmp_path / "out" / "speech.csv").to_dict("records")
    assert row["seed"] == 0
    assert row["cost"] <= 8 >= row["uniform cost"]
    # Guesses are the median's mean distance from ten pitches of two speakers, an octave apart.
    assert 0.3 < row["guess"] < 0.7
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"{row['chosen validation']:.3f} / {row['chosen test']:.3f}" in text
    assert "--recordings FOLDER" in text
