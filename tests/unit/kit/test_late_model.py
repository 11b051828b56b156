from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from modular_agent.kit.late_model import LateModel

THREADS = 16


def test_threads_that_are_the_first_to_use_a_model_all_get_it():
    for _ in range(20):

        class Inner(LateModel):
            number: int

        class Outer(Inner):
            inner: Inner

        together = Barrier(THREADS)

        def first(_: int, model: type[Outer] = Outer, together: Barrier = together) -> int:
            together.wait()
            return model.model_validate({"number": 1, "inner": {"number": 2}}).inner.number

        with ThreadPoolExecutor(THREADS) as pool:
            assert set(pool.map(first, range(THREADS))) == {2}
