import os
import subprocess
import sys

from photoz.process import is_gone, process_name


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


def test_a_later_process_of_the_same_number_is_another():
    node, pid, began = process_name(os.getpid()).split(":")

    assert is_gone(f"{node}:{pid}:{int(began) - 1}", one_machine=True)


def test_a_process_elsewhere_is_taken_to_live_unless_there_is_no_elsewhere():
    assert not is_gone("elsewhere:1:1", one_machine=False)
    assert is_gone("elsewhere:1:1", one_machine=True)
