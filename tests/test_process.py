import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from photoz.process import is_gone, process_name, uninterrupted


def test_this_process_lives_under_a_name_that_stays():
    name = process_name(os.getpid())

    assert name == process_name(os.getpid())
    assert not is_gone(name, one_machine=True)


def test_a_process_that_ended_is_gone_even_before_its_parent_has_noticed():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(child.pid)
    assert not is_gone(name, one_machine=True)

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert process_name(child.pid) is None
    assert is_gone(name, one_machine=True)
    child.communicate()


@pytest.mark.parametrize("error", [FileNotFoundError, ProcessLookupError])
def test_a_process_may_end_while_it_is_looked_at(monkeypatch, error):
    name = process_name(os.getpid())

    def ended(*_, **__):
        raise error

    monkeypatch.setattr(Path, "read_text", ended)
    assert is_gone(name, one_machine=True)


def test_a_later_process_of_the_same_number_is_another():
    node, pid, began = process_name(os.getpid()).split(":")

    assert is_gone(f"{node}:{pid}:{int(began) - 1}", one_machine=True)


def test_a_process_elsewhere_is_taken_to_live_unless_there_is_no_elsewhere():
    assert not is_gone("elsewhere:1:1", one_machine=False)
    assert is_gone("elsewhere:1:1", one_machine=True)


def test_a_signal_waits_for_the_end_of_what_must_not_be_interrupted():
    done = []

    @uninterrupted()
    def write():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        write()

    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_does_not_wait():
    done = []

    @uninterrupted()
    def write():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        write()

    assert done == []


def test_a_signal_does_not_wait_where_it_need_not():
    done = []

    def write():
        with uninterrupted() as interruptible:
            try:
                with interruptible():
                    os.kill(os.getpid(), signal.SIGINT)
                    done.append("all of it")
            finally:
                os.kill(os.getpid(), signal.SIGINT)
                done.append("told of it")

    with pytest.raises(KeyboardInterrupt):
        write()

    assert done == ["told of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_waits_no_longer_than_it_must():
    done = []

    def write():
        with uninterrupted() as interruptible:
            os.kill(os.getpid(), signal.SIGINT)
            done.append("what must not be interrupted")
            with interruptible():
                done.append("what may be")

    with pytest.raises(KeyboardInterrupt):
        write()

    assert done == ["what must not be interrupted"]


def test_other_threads_are_never_interrupted():
    done = []

    @uninterrupted()
    def write():
        done.append("all of it")

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()

    assert done == ["all of it"]
