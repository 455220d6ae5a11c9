import os
import signal

import pytest

from data_shards.errors import CacheError
from distill.attempt import cache_once
from distill.preemption import SIGNALS, StopFlag
from distill.run_folder import RunPaths, read_exit
from distill.teacher import source as teacher_source
from tests.distill.test_teacher_cache import build, files, open_cache


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


def test_a_build_that_is_told_to_stop_goes_on_behind_its_last_batch(distilled, monkeypatch):
    config, flag, at = distilled(), StopFlag(), []
    monkeypatch.setattr(teacher_source, "CPU_BATCH", 3)  # the bytes are of batches of 3 then
    whole = distilled(teacher={"cache": str(config.teacher.cache.with_name("whole"))})
    assert build(whole) is True
    for stops in (2, 1, 3):

        def stop(done: int, total: int, stops: int = stops, **facts: float) -> None:
            at.append(done)
            flag.raised = len(at) == stops

        at.clear()
        assert build(config, progress=stop, flag=flag) is None
        assert len(at) == stops and not (config.teacher.cache / "cache.json").exists()
        flag.raised = False
    described = []
    assert build(config, progress=lambda done, total, **_: described.append(done)) is True
    assert described[0] > at[-1], "behind what was made"
    assert files(config.teacher.cache) == files(whole.teacher.cache)


def test_the_verb_says_75_where_the_job_is_told_to_stop_and_goes_on_when_asked_again(
    distilled,
):
    config = distilled()
    paths = RunPaths(config.teacher.cache)
    paths.folder.mkdir()
    paths.stop.touch()  # as a script does that hears USR1 while ranks still start
    assert cache_once(config) == 75
    assert read_exit(paths.folder)["code"] == 75 and not paths.stop.exists()
    with pytest.raises(CacheError, match="no finished teacher cache"):
        open_cache(config)
    assert cache_once(config) == 0 and read_exit(paths.folder) is None
    assert open_cache(config)
