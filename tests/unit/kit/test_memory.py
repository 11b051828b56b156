"""The collector leaves alone what a process has made while it started, and still finds new cycles."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from modular_agent.kit.memory import has_started, is_starting

class Ring:
    def __init__(self): self.me = self

is_starting()
kept = [Ring() for _ in range(1_000)]
has_started()
assert gc.get_freeze_count() > 1_000
gone = weakref.ref(Ring())
for _ in range(100_000):
    kept.append([])
assert gone() is None
print("ok")
"""


def test_what_was_there_at_the_start_is_frozen_and_new_cycles_are_collected():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("ok\n", "")
