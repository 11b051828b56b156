"""Threads that parse at once do not disturb each other."""

import subprocess
import sys

# The collector gives up the GIL in the middle of making a tree, as any finalizer may do.
PROGRAM = """
import gc, threading, time
from modular_agent.kit.python_source import parse

gc.set_threshold(50)
gc.callbacks.append(lambda *_: time.sleep(0))
source = "\\n".join(f"def f{n}(a, b=({n}, [1, 2])):\\n    return [x for x in b if a]" for n in range(60))
failed = []

def go():
    try:
        for _ in range(60):
            parse(source)
    except SystemError as error:
        failed.append(error)

threads = [threading.Thread(target=go) for _ in range(4)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print(failed)
"""


def test_threads_that_parse_at_once_do_not_disturb_each_other():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
