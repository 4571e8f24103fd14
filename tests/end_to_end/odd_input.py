"""A command given an odd file or argument takes it, or refuses it in one line with exit code 2."""

import os

from hypothesis import HealthCheck, seed, settings

COUNT = int(os.environ.get("BITSEARCH_INPUTS", "0"))
SEED = os.environ.get("BITSEARCH_SEED")


def inputs(count):
    """So many inputs, the same at every run; or as many as the environment asks for, and others for every seed."""
    chosen = settings(
        max_examples=COUNT or count,
        deadline=None,
        derandomize=SEED is None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )
    return chosen if SEED is None else lambda test: seed(int(SEED))(chosen(test))


def harmless(ended):
    """Whether the input was taken; otherwise it was refused in one line."""
    # What was written, and found to be another network than the user's, ends with 1.
    differs = ended.returncode == 1 and "logits differ by" in ended.stdout
    assert ended.returncode in (0, 2) or differs, ended
    if ended.returncode == 2:
        lines = [line for line in ended.stderr.splitlines() if not line.startswith("http://")]
        assert lines, ended
        assert all(line.startswith("bitsearch: ") for line in lines), ended
    for character in ended.stdout + ended.stderr:
        assert character == "\n" or character.isprintable() or character.isspace(), repr(character)
    return ended.returncode == 0


def tried(call, work, file, content, *commands):
    """Run commands with other bytes in a file, and then put the file back."""
    path = work / file
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(content)
    try:
        for command in commands:
            harmless(call(*command, cwd=work))
    finally:
        path.unlink(missing_ok=True) if before is None else path.write_bytes(before)
