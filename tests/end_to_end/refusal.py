def refused(finished):
    """The one line of a command that refused its input."""
    assert finished.returncode == 2, finished.stderr
    assert finished.stdout == ""
    lines = [line for line in finished.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, finished.stderr
    return lines[0]
