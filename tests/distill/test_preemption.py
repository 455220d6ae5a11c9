import os
import signal

import pytest

from distill.preemption import SIGNALS, StopFlag


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_the_flag_and_means_again_what_it_meant(number):
    heard = []
    before = signal.signal(number, lambda *_: heard.append(number))
    try:
        with StopFlag() as flag:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            assert flag.raised and not heard
        os.kill(os.getpid(), number)
        assert heard == [number]
    finally:
        signal.signal(number, before)


def test_signals_are_given_back_after_an_error():
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ValueError, match="ours"), StopFlag():
        raise ValueError("ours")
    assert [signal.getsignal(number) for number in SIGNALS] == before
