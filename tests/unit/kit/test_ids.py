"""Identifiers are never given twice: not to threads, not to a child process."""

import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from modular_agent.kit.ids import new_id


def test_an_id_is_its_kind_and_eighty_bits():
    assert re.fullmatch(r"run_[0-9a-f]{20}", new_id("run"))


def test_threads_get_different_ids():
    with ThreadPoolExecutor(8) as threads:
        made = [name for part in threads.map(lambda _: [new_id("x") for _ in range(2_000)], range(8)) for name in part]
    assert len(set(made)) == 16_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_does_not_repeat_what_its_parent_will_make():
    new_id("x")  # now there are bytes in stock
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process with threads
        child = os.fork()
    if child == 0:
        os.write(writer, new_id("x").encode())
        os._exit(0)
    os.waitpid(child, 0)
    childs = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    assert childs.startswith("x_")
    assert childs not in {new_id("x") for _ in range(500)}
