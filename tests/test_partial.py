"""An evaluation that was stopped goes on where it was, and ends as an unbroken one."""

import _thread
import os

import numpy as np
import pytest

import minivae as mv
from minivae import evaluation
from minivae.engine import partial

K = 30


@pytest.fixture
def blocks(monkeypatch):
    """Blocks of 4 images; the list of those that were weighed."""
    monkeypatch.setitem(evaluation.IMAGES, "cpu", 4)
    weighed, real = [], evaluation.draw_weights

    def spy(model, x, k, seed, images):
        weighed.extend(range(images.start, images.stop))
        if len(weighed) == 8:
            _thread.interrupt_main()
        return real(model, x, k, seed, images)

    monkeypatch.setattr(evaluation, "draw_weights", spy)
    return weighed


def measure(path, model=None, **settings):
    model = model or mv.VAE(9, (2, 1), ((3,), (2,)), rng=0)
    images = np.random.default_rng(0).random((18, 9))
    return mv.evaluate(model, images, K, partial=path, progress=False, **settings)


def stopped(path, blocks):
    with pytest.raises(KeyboardInterrupt, match="after 8 of 18 images; they are kept"):
        measure(path)
    blocks.clear()
    blocks.append(-1)  # no interrupt any more


def test_it_goes_on(tmp_path, blocks):
    path = tmp_path / "partial.npz"
    stopped(path, blocks)
    result = measure(path)
    assert blocks[1:] == list(range(8, 18)) and os.listdir(tmp_path) == []
    whole = measure(None)
    assert result.summary() == whole.summary()  # to the last bit
    np.testing.assert_array_equal(result.sorted_weights, whole.sorted_weights)
    np.testing.assert_array_equal(
        result.effective_sample_size, whole.effective_sample_size
    )


def changed(model):
    model.params["q1.mu.b"] += 1
    return model


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"binarize_seed": 1},
        {"model": changed(mv.VAE(9, (2, 1), ((3,), (2,)), rng=0))},
    ],
)
def test_what_is_not_of_the_same_numbers_is_not_used(tmp_path, blocks, settings):
    stopped(tmp_path / "partial.npz", blocks)
    measure(tmp_path / "partial.npz", **settings)
    assert blocks[1:] == list(range(18))


def test_a_damaged_file_is_measured_again(tmp_path, blocks):
    path = tmp_path / "partial.npz"
    stopped(path, blocks)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="measured again"):
        measure(path)
    assert blocks[1:] == list(range(18))


def test_blocks_are_kept_before_any_interrupt(tmp_path, monkeypatch):
    """A kill comes without a word: what is measured is written from time to time."""
    monkeypatch.setattr(partial, "SECONDS", -1)
    arrays, path = {"a": np.zeros(3)}, tmp_path / "partial.npz"
    done, keep = partial.kept_results(path, "key", arrays)
    assert done == 0
    arrays["a"][:2] = 5
    keep(2)
    other = {"a": np.zeros(3)}
    done, _ = partial.kept_results(path, "key", other)
    assert done == 2 and other["a"].tolist() == [5, 5, 0]


def test_parts_are_the_whole(tmp_path, blocks):
    """Measured in any order, one of them twice; noise and pixels are the same."""
    blocks.append(-1)
    model, images = mv.VAE(9, (2, 1), ((3,), (2,)), rng=0), np.full((18, 9), 0.5)
    seen, total = evaluation.images_seen(model, images, 3), {}
    for rows in (slice(8, 18), slice(0, 8), slice(8, 18)):
        path = tmp_path / f"{rows.start}.npz"
        how = {"seed": 5, "partial": path, "progress": False}
        part = evaluation.measure(model, seen, K, rows, **how)
        total[rows.start] = part
        assert not part["log_px"][: rows.start].any()
    assert blocks[1:] == [
        *range(8, 18),
        *range(8),
    ]  # what is kept is not again
    total = {name: total[0][name] + total[8][name] for name in part}
    result = evaluation.summary_of(model, seen, K, total)
    whole = mv.evaluate(model, images, K, binarize_seed=3, seed=5, progress=False)
    assert result.summary() == whole.summary()
    np.testing.assert_allclose(result.sorted_weights, whole.sorted_weights, rtol=1e-12)
    assert (result.x_digest, result.log_p[17]) == (whole.x_digest, whole.log_p[17])


def test_without_a_file_nothing_is_kept(blocks):
    with pytest.raises(KeyboardInterrupt, match="images; nothing is kept"):
        measure(None)
