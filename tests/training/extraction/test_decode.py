"""Tiles come in the order they were asked for, whoever decodes them."""

import os
import signal

import numpy as np
import pytest

from tests.training.extraction.made_up_slides import draw
from training.extraction import decode
from training.extraction.config import Tiling
from training.extraction.decode import Job

TILING = Tiling(tile_px=32, mpp=1.0)


def job(path, number, count=3):
    coords = np.array([[32 * i, 32 * number] for i in range(count)], np.int32)
    return Job(
        part=number, start=0, path=path, mpp=1.0, tiling=TILING, coords=coords, looks=(None,)
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_pixels_of_the_slide_in_order(tmp_path, workers):
    if workers > len(os.sched_getaffinity(0)):
        pytest.skip("one core")
    path = draw(tmp_path / "a.png")
    from PIL import Image

    picture = np.asarray(Image.open(path))
    found = list(decode.batches((job(path, n) for n in range(5)), workers=workers, pin=False))
    assert [batch.part for batch in found] == [0, 1, 2, 3, 4]
    for batch in found:
        assert batch.error == "" and batch.whole.all() and len(batch.tiles) == 1
        for place, tile in enumerate(batch.tiles[0].numpy()):
            y, x = 32 * batch.part, 32 * place
            assert np.array_equal(tile, picture[y : y + 32, x : x + 32])


def test_a_slide_that_cannot_be_opened_is_told_and_the_next_is_decoded(tmp_path):
    path = draw(tmp_path / "a.png")
    jobs = [job(tmp_path / "missing.svs", 0), job(path, 1)]
    bad, good = decode.batches(jobs, workers=0, pin=False)
    assert "missing.svs" in bad.error and bad.tiles == ()
    assert good.error == "" and len(good.whole) == 3


def square(number):
    return number * number


def die(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_calls_come_back_in_order():
    assert list(decode.each(square, range(6), workers=1)) == [0, 1, 4, 9, 16, 25]


def test_a_process_that_dies_is_no_silence():
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(decode.each(die, range(6), workers=1))
