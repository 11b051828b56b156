"""Tools of the `approval` workflow: a newsletter whose readers are a list in this file."""

READERS = ["ada@example.org", "bo@example.org", "cy@example.org"]


def count_readers() -> int:
    """How many readers the newsletter has."""
    return len(READERS)


def send_test(readers: list[str]) -> str:
    """Sends a test to some readers; sending it twice does no harm."""
    return f"Tested with {len(readers)}."


def send_mailing(text: str) -> str:
    """Sends the mailing to every reader. It cannot be taken back."""
    return f"Sent to {len(READERS)} readers: {text}"
