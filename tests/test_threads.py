"""Threads that a library has are held back while they are in the way, and given back."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from photoz.estimators.dense_networks import DenseNetworks, MixtureHead
from photoz.threads import OneThread, one_blas_thread


@pytest.fixture
def library():
    """A library of eight threads: how many it has, and what holds it back."""
    threads = [8]

    def limit():
        before = threads[-1]
        threads.append(1)
        return lambda: threads.append(before)

    return threads, OneThread(limit)


def test_threads_are_given_back(library):
    threads, one_thread = library
    with one_thread():
        assert threads[-1] == 1

    assert threads[-1] == 8


def test_threads_are_given_back_after_an_error(library):
    threads, one_thread = library
    with pytest.raises(InterruptedError), one_thread():
        raise InterruptedError

    assert threads[-1] == 8


def test_the_last_to_end_gives_the_threads_back(library):
    threads, one_thread = library
    first, second = one_thread(), one_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert threads[-1] == 1
    second.__exit__(None, None, None)

    assert threads == [8, 1, 8]


def blas_threads():
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_networks_multiply_in_one_thread_and_give_the_others_back():
    weights = [np.ones((1, 6, 2), np.float32), np.ones((1, 3, 6), np.float32)]
    biases = [np.zeros((1, 6, 1), np.float32), np.zeros((1, 3, 1), np.float32)]
    networks = DenseNetworks(weights, biases, MixtureHead(0.5, 0.2, 0.01, 1))
    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            assert blas_threads() == {1}
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(networks.mixture, [np.zeros((2000, 2), np.float32)] * 6))
        assert blas_threads() == {2}
