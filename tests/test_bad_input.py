"""Bad input is met at the door: each row is a call, and words that its message must
hold.
"""

import numpy as np
import pytest

import minivae as mv
from minivae import model as model_module
from minivae import settings as settings_module
from minivae.engine import memory

RNG = np.random.default_rng(0)


def model(**settings):
    rng = np.random.default_rng(0)
    settings = {"latent_dims": (2,), "hidden_dims": ((3,),), "rng": rng} | settings
    return mv.VAE(4, **settings)


M = model()
X = np.array([[0, 1, 0, 1], [1, 1, 0, 0]], np.float32)
EPS = M.draw_eps(2, 3, RNG)
TWO = model(latent_dims=(2, 1), hidden_dims=((3,), (3,)))


def spoiled(array, value):
    array = np.array(array, float)
    array.flat[1] = value
    return array


class DataFrame:
    """As much of pandas' as NumPy sees; it has a ``get``, like CuPy's arrays."""

    def __init__(self, array):
        self.array = array

    def get(self, key):
        raise AssertionError("taken for an array of the device")

    def __array__(self, *args, **kwargs):
        return np.asarray(self.array)


TABLE = {
    "x: width": (
        lambda: mv.bound_and_grad(M, X[:, :3], EPS),
        "x must be of shape (n, 4) with n >= 1; got (2, 3)",
    ),
    "x: one row": (
        lambda: mv.bound_and_grad(M, X[0], EPS),
        "x must be of shape (n, 4) with n >= 1; got (4,)",
    ),
    "x: empty batch": (
        lambda: mv.bound_and_grad(M, X[:0], EPS),
        "x must be of shape (n, 4) with n >= 1; got (0, 4)",
    ),
    "x: NaN": (
        lambda: mv.bound_and_grad(M, spoiled(X, np.nan), EPS),
        "x holds NaN or infinity",
    ),
    "x: infinity": (
        lambda: M.log_weights(spoiled(X, np.inf), EPS),
        "x holds NaN or infinity",
    ),
    "x: grey": (
        lambda: M.log_weights(spoiled(X, 0.5), EPS),
        "only 0 and 1 for a Bernoulli likelihood: binarize",
    ),
    "x: words": (
        lambda: mv.bound_and_grad(M, X.astype(str), EPS),
        "x must hold real numbers; got dtype <U",
    ),
    "x: complex": (
        lambda: mv.bound_and_grad(M, X.astype(complex), EPS),
        "x must hold real numbers; got dtype complex",
    ),
    "eps: not a list": (
        lambda: M.log_weights(X, EPS[0]),
        "eps must be a list of 1 arrays, one per stochastic layer",
    ),
    "eps: too many": (
        lambda: M.log_weights(X, EPS * 2),
        "eps must be a list of 1 arrays",
    ),
    "eps: batch": (
        lambda: M.log_weights(X[:1], EPS),
        "eps[0] must be of shape (1, 3, 2) with n >= 1; got (2, 3, 2)",
    ),
    "eps: latents": (
        lambda: M.log_weights(X, [EPS[0][..., :1]]),
        "eps[0] must be of shape (2, 3, 2)",
    ),
    "eps: K = 0": (
        lambda: M.log_weights(X, [EPS[0][:, :0]]),
        "eps[0] must be of shape (2, n, 2) with n >= 1; got (2, 0, 2)",
    ),
    "eps: NaN": (
        lambda: M.log_weights(X, [spoiled(EPS[0], np.nan)]),
        "eps[0] holds NaN",
    ),
    "eps: K differs": (
        lambda: TWO.log_weights(X, [np.zeros((2, 3, 2)), np.zeros((2, 4, 1))]),
        "eps[1] must be of shape (2, 3, 1) with n >= 1; got (2, 4, 1)",
    ),
    "k = 0": (lambda: M.draw_eps(2, 0, RNG), "k must be at least 1; got 0"),
    "k = 1.5": (lambda: M.draw_eps(2, 1.5, RNG), "k must be a whole number; got 1.5"),
    "k = True": (
        lambda: M.draw_eps(2, True, RNG),
        "k must be a whole number; got True",
    ),
    "batch = 0": (lambda: M.draw_eps(0, 1, RNG), "batch must be at least 1"),
    "unknown bound": (
        lambda: mv.bound_and_grad(M, X, EPS, "elbow"),
        "bound must be one of elbo, iwae, miwae, ciwae, vr, jackknife, elbo_kl; got",
    ),
    "unknown estimator": (
        lambda: mv.bound_and_grad(M, X, EPS, estimator="magic"),
        "rws-dreg, piwae; got 'magic'",
    ),
    "elbo_kl with two layers": (
        lambda: mv.bound_and_grad(TWO, X, TWO.draw_eps(2, 3, RNG), "elbo_kl"),
        "bound 'elbo_kl' has a closed form for one stochastic layer, estimator"
        " 'reparam' and backward 'all' only; got 2 layers",
    ),
    "elbo_kl with stl": (
        lambda: mv.bound_and_grad(M, X, EPS, "elbo_kl", "stl"),
        "estimator 'reparam' and backward 'all' only; got 1 layer, estimator 'stl'",
    ),
    "decode: width": (
        lambda: M.decode(np.zeros((3, 4))),
        "z must be of shape (n, 2) with n >= 1; got (3, 4)",
    ),
    "encode: width": (
        lambda: M.encode(np.zeros((3, 2))),
        "x must be of shape (n, 4) with n >= 1; got (3, 2)",
    ),
    "sample: n = 0": (lambda: M.sample(0, RNG), "n must be at least 1"),
    "model: x_dim": (lambda: mv.VAE(0, rng=RNG), "x_dim must be at least 1; got 0"),
    "model: latent_dims": (
        lambda: model(latent_dims=(2, 2)),
        "one size, and hidden_dims one tuple, for each stochastic",
    ),
    "model: no layer": (
        lambda: model(latent_dims=(), hidden_dims=()),
        "for each stochastic layer",
    ),
    "model: hidden_dims": (
        lambda: model(hidden_dims=((0,),)),
        "hidden_dims must be at least 1",
    ),
    "model: likelihood": (
        lambda: model(likelihood="poisson"),
        "bernoulli, bernoulli-grey, gaussian; got 'poisson'",
    ),
    "model: dtype": (
        lambda: model(dtype=np.float16),
        "dtype must be one of float32, float64; got 'float16'",
    ),
    "model: device": (lambda: model(device="tpu"), "one of cpu, cuda; got 'tpu'"),
    "model: kernels": (
        lambda: model(kernels="cuda"),
        "kernels on device 'cpu' must be one of numpy, numba; got 'cuda'",
    ),
    "model: x_mean": (
        lambda: model(x_mean=np.zeros(3)),
        "x_mean must be of shape (4) with n >= 1; got (3,)",
    ),
    "adam: kernels": (
        lambda: mv.Adam(M.params, kernels="f77"),
        "numpy, numba, cuda; got 'f77'",
    ),
    "bound: no samples": (
        lambda: mv.BOUNDS["iwae"](np.zeros((2, 0))),
        "log_w must be (B, K) with K >= 1; got shape (2, 0)",
    ),
    "bound: one axis": (
        lambda: mv.BOUNDS["elbo"](np.zeros(3)),
        "log_w must be (B, K) with K >= 1; got shape (3,)",
    ),
    "adam: shape": (
        lambda: mv.Adam(M.params).step(
            {name: array[:1] for name, array in M.params.items()}
        ),
        "the gradient of q1.hidden1.W must be of shape (4, 3); got shape (1, 3)",
    ),
    "adam: missing": (
        lambda: mv.Adam(M.params).step({}),
        "the gradient of q1.hidden1.W must be of shape (4, 3); got no such",
    ),
    "train: grey range": (
        lambda: mv.train(M, 255 * X),
        "images must lie in [0, 1]; got 0 to 255",
    ),
    "train: width": (
        lambda: mv.train(M, X[:, :3]),
        "images must be of shape (n, 4) with n >= 1; got (2, 3)",
    ),
    "train: what to do": (
        lambda: mv.train(M, 255 * X),
        "got 0 to 255: divide by the value of white",
    ),
    "train: bytes of zeros and ones": (
        lambda: mv.train(M, X.astype(np.uint8)),
        "images holds bytes up to 1, where 255 is white",
    ),
    "train: a table of words": (
        lambda: mv.train(M, DataFrame(X.astype(object))),
        "images must hold real numbers; got dtype object",
    ),
    "train: a dict": (lambda: mv.train(M, {"images": X}), "images must hold real"),
    "train: lr": (lambda: mv.train(M, X, lr=1e-3), "lr: did you mean learning_rate?"),
    "train: batch_size": (
        lambda: mv.train(M, X, batch_size=10),
        "batch_size: did you mean batch?",
    ),
    "train: learning rate None": (
        lambda: mv.train(M, X, learning_rate=None),
        "learning_rate must be a real number; got None",
    ),
    "train: tau a word": (
        lambda: mv.train(M, X, tau="half"),
        "tau must be a real number; got 'half'",
    ),
    "train: k beyond memory": (
        lambda: mv.train(M, X, k=10**11),
        "a step with k = 100,000,000,000 would take about",
    ),
    "evaluate: k beyond memory": (
        lambda: mv.evaluate(M, X, k=10**11),
        "an evaluation with k = 100,000,000,000 would take about 8,000 GB",
    ),
    "sample: n beyond memory": (
        lambda: M.sample(10**11, 0),
        "100,000,000,000 images would take about",
    ),
    "draw_eps: k beyond memory": (lambda: M.draw_eps(1, 10**12, 0), "lower k or the"),
    "model: latent_dims a number": (
        lambda: mv.VAE(784, 2, (200,), rng=0),
        "latent_dims must be a tuple, as in (50,); got 2",
    ),
    "model: hidden_dims one level": (
        lambda: mv.VAE(784, hidden_dims=(200, 200), rng=0),
        "a tuple for each stochastic layer, as in ((200, 200),); got (200, 200)",
    ),
    "model: rng": (
        lambda: model(rng="0"),
        "rng must be a numpy.random.Generator or a whole number, its seed; got '0'",
    ),
    "model: rng negative": (lambda: model(rng=-1), "rng must be at least 0; got -1"),
    "train: NaN": (lambda: mv.train(M, spoiled(X, np.nan)), "images holds NaN"),
    "train: test images": (
        lambda: mv.train(M, X, test_images=X[:, :3]),
        "test_images must be of shape (n, 4)",
    ),
    "train: k": (lambda: mv.train(M, X, k=0), "k must be at least 1"),
    "train: epochs": (lambda: mv.train(M, X, epochs=0), "epochs must be at least 1"),
    "train: batch": (
        lambda: mv.train(M, X, batch=-1),
        "batch must be at least 1; got -1",
    ),
    "train: learning rate": (
        lambda: mv.train(M, X, learning_rate=0),
        "learning_rate and epsilon must be positive",
    ),
    "train: learning rate NaN": (
        lambda: mv.train(M, X, learning_rate=np.nan),
        "must be positive",
    ),
    "train: bound": (lambda: mv.train(M, X, "elbow"), "bound must be one of"),
    "train: estimator": (
        lambda: mv.train(M, X, estimator="magic"),
        "estimator must be one of",
    ),
    "train: elbo_kl with two layers": (
        lambda: mv.train(TWO, X, "elbo_kl", k=1, progress=False),
        "one stochastic layer",
    ),
    "train: binarization": (
        lambda: mv.train(M, X, binarization="static"),
        "binarization must be one of dynamic, fixed, none; got 'static'",
    ),
    "train: seed": (lambda: mv.train(M, X, seed=-1), "seed must be at least 0; got -1"),
    "evaluate: k": (lambda: mv.evaluate(M, X, k=0), "k must be at least 1"),
    "evaluate: width": (
        lambda: mv.evaluate(M, X[:, :3]),
        "images must be of shape (n, 4)",
    ),
    "evaluate: empty": (
        lambda: mv.evaluate(M, X[:0]),
        "images must be of shape (n, 4) with n >= 1; got (0, 4)",
    ),
    "train: folder": (
        lambda: mv.train(M, X, folder=""),
        "folder must be a path, or None; got ''",
    ),
    "train: epochs in all": (
        lambda: mv.train(M, X, epochs=2_000_000_000),
        "epochs must be at most 1,000,000 in all",
    ),
    "train: no stage": (
        lambda: mv.train(M, X, stages=[]),
        "stages must hold one stage or more; got none",
    ),
    "train: no binarization": (
        lambda: mv.train(M, X, binarization="none"),
        "likelihood 'bernoulli' needs a binarization, not 'none'",
    ),
    "train: epsilon": (
        lambda: mv.train(M, X, epsilon=1e-50),
        "learning_rate and epsilon must be positive and finite",
    ),
    "train: seed None": (
        lambda: mv.train(M, X, seed=None),
        "seed must be a whole number",
    ),
    "train: m and k": (
        lambda: mv.train(M, X, "miwae", k=5, m=2),
        "m must be a whole number that divides K = 5; got 2",
    ),
    "train: vimco and k": (
        lambda: mv.train(M, X, k=1, estimator="vimco"),
        "vimco needs K >= 2; got K = 1",
    ),
    "option missing": (
        lambda: mv.bound_and_grad(M, X, EPS, "miwae"),
        "'miwae' needs the option m",
    ),
    "option of the estimator missing": (
        lambda: mv.bound_and_grad(M, X, EPS, "iwae", "piwae"),
        "'piwae' needs the option m",
    ),
    "option: a fraction for a whole number": (
        lambda: mv.bound_and_grad(M, X, EPS, "miwae", m=1.5),
        "m must be a whole number; got 1.5",
    ),
    "option: words": (
        lambda: mv.BOUNDS["vr"](np.zeros((2, 3)), alpha="half"),
        "alpha must be a real number; got 'half'",
    ),
    "option of another bound": (
        lambda: mv.BOUNDS["vr"](np.zeros((2, 3)), alpha=0.5, m=1, beta=0.5),
        "'vr' takes no option beta, m",
    ),
    "train: baseline": (
        lambda: mv.train(M, X, estimator="score", baseline=1.0),
        "train keeps a running mean for a baseline: leave it out",
    ),
    "option unknown": (
        lambda: mv.bound_and_grad(M, X, EPS, "vr", alpha=0.5, gamma=1),
        "bound 'vr' and estimator 'reparam' take no option gamma",
    ),
    "backward: elbo_kl": (
        lambda: mv.bound_and_grad(M, X, EPS, "elbo_kl", backward="single", rng=RNG),
        "and backward 'all' only; got 1 layer, estimator 'reparam' and backward"
        " 'single'",
    ),
    "backward: name": (
        lambda: mv.bound_and_grad(M, X, EPS, backward="some"),
        "backward must be one of all, single, sparse; got 'some'",
    ),
    "backward: rng": (
        lambda: mv.bound_and_grad(M, X, EPS, backward="sparse"),
        "backward 'sparse' chooses samples: it needs rng",
    ),
    "backward: tau": (
        lambda: mv.bound_and_grad(M, X, EPS, backward="sparse", tau=0, rng=RNG),
        "tau must be positive; got 0",
    ),
    "model: x_sigma": (
        lambda: model(x_sigma=0.5),
        "x_sigma is a positive number, for likelihood 'gaussian' only; got 0.5",
    ),
    "model: x_sigma of zero": (
        lambda: model(likelihood="gaussian", x_sigma=0.0),
        "x_sigma is a positive number, for likelihood 'gaussian' only; got 0.0",
    ),
    "model: x_mean range": (
        lambda: model(x_mean=np.full(4, 2.0)),
        "x_mean must lie in [0, 1]; got 2 to 2",
    ),
    "grey by name": (
        lambda: model(likelihood="bernoulli-grey").log_weights(2 * X, EPS),
        "x must lie in [0, 1]; got 0 to 2",
    ),
    "binarize: range": (
        lambda: mv.binarize(255 * X, RNG),
        "images must lie in [0, 1]; got 0 to 255",
    ),
    "adam: a plain dict": (
        lambda: mv.Adam({"a": np.zeros((3, 4))}),
        "params must be a model's, or another Params; got dict",
    ),
    "gradcheck: float32": (
        lambda: mv.check_gradients(M, X, EPS),
        "needs a float64 model; got float32",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_refused(case):
    call, words = TABLE[case]
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert words in str(error.value)


def test_other_dtypes_are_taken():
    """Booleans and bytes are zeros and ones too, and a float64 eps suits a float32
    model.
    """
    value, _ = mv.bound_and_grad(M, X, EPS)
    eps = [EPS[0].astype(np.float64)]
    for dtype in (bool, np.uint8, np.int64, np.float64):
        assert mv.bound_and_grad(M, X.astype(dtype), eps)[0] == value
    assert mv.bound_and_grad(M, X.tolist(), EPS)[0] == value


def test_bytes_and_tables_are_taken():
    """Bytes lie between 0 and 255; what becomes an array is one."""
    settings = {"k": 2, "epochs": 1, "progress": False}
    grey = np.array([[0, 51, 102, 255], [255, 0, 0, 51]], np.uint8)
    bounds = [
        mv.train(model(), images, **settings).history["bound"]
        for images in (grey, grey / 255, DataFrame(grey), DataFrame(grey / 255))
    ]
    assert all(bound == bounds[0] for bound in bounds)


ROW = (4 + 3 + 2) * 4  # bytes of a sample's activations in M
# what is asked for -> the bytes that it is thought to take, and how
SIZES = {
    "train": (
        5 * (3 * ROW + 96),  # 96 for its weight and coefficients
        lambda: mv.train(model(), X, k=5, epochs=1, progress=False),
    ),
    "evaluate": (40 * 2 * 7, lambda: mv.evaluate(M, X, k=7, progress=False)),
    "sample": (6 * ROW, lambda: M.sample(6, 0)),
    "draw_eps": (3 * 5 * 2 * 4, lambda: M.draw_eps(3, 5, 0)),
    "bound": (5 * 4 * 4, lambda: M.bound(X, 5)),
}


@pytest.mark.parametrize("what", SIZES)
def test_what_fits_into_memory_is_taken(what, monkeypatch):
    """To the byte: and what is one larger is refused."""
    size, ask = SIZES[what]
    monkeypatch.setattr(memory, "machine_bytes", lambda: size)
    ask()
    monkeypatch.setattr(memory, "machine_bytes", lambda: size - 1)
    with pytest.raises(ValueError, match="would take about"):
        ask()


def test_the_largest_settings_that_are_taken(monkeypatch):
    """Errors say the most that there may be: so many are taken."""
    epochs = settings_module.MOST_EPOCHS
    how = {"average": None, "schedule": "constant", "binarization": None, "tau": 0.1}
    how |= {"k": 1, "batch": 1, "seed": 0, "stages": None, "learning_rate": 0.5}
    how |= {"bound": "iwae", "estimator": "reparam", "options": {}, "backward": "all"}
    how |= {"epsilon": float(np.finfo(np.float32).tiny)}  # the least
    taken = settings_module.check_settings(M, epochs=epochs, **how)
    assert taken.stages == [[epochs, 0.5]] and epochs == 1_000_000
    parameters = 2 * (4 * 3 + 3 * 2)  # in the matrices
    monkeypatch.setattr(model_module, "MOST_PARAMETERS", parameters)
    model()
    monkeypatch.setattr(model_module, "MOST_PARAMETERS", parameters - 1)
    with pytest.raises(ValueError, match="make 36 parameters or more in 2 layers"):
        model()


def test_as_many_layers_as_the_error_says():
    """The most that are taken are taken: 999 hidden ones and the stochastic one."""
    hidden = (1,) * 999
    most = model(latent_dims=(1,), hidden_dims=(hidden,))
    assert most.hidden_dims == (hidden,)
    with pytest.raises(ValueError, match="1,001 layers; at most .* in 1,000 are"):
        model(latent_dims=(1,), hidden_dims=((*hidden, 1),))


def test_a_whole_number_is_a_seed():
    same = model(rng=np.random.default_rng(3)), model(rng=3), model(rng=np.int64(3))
    for other in same[1:]:
        np.testing.assert_array_equal(other.params.vector, same[0].params.vector)
    np.testing.assert_array_equal(M.sample(3, 5), M.sample(3, np.random.default_rng(5)))
    grey = np.full((3, 4), 0.5)
    np.testing.assert_array_equal(
        mv.binarize(grey, 5), mv.binarize(grey, np.random.default_rng(5))
    )
    how = {"backward": "single", "rng": 5}
    assert mv.bound_and_grad(M, X, EPS, **how)[0] < 0


def test_numbers_of_numpy_are_options(tmp_path):
    """Everywhere, config.json included."""
    grey = model(likelihood="gaussian", x_sigma=np.float32(0.5))
    settings = {"k": np.int64(4), "m": np.int64(2), "epochs": np.int8(1), "tau": 1.0}
    settings |= {"learning_rate": np.float32(0.5), "seed": np.uint8(3)}
    settings |= {"batch": np.int32(2), "epsilon": np.float64(1e-8), "progress": False}
    mv.train(grey, X, "miwae", **settings, folder=tmp_path)
    config = mv.load_run(tmp_path).config
    assert config["options"] == {"m": 2} and config["model"]["x_sigma"] == 0.5


def test_inputs_are_left_alone():
    x, eps = X.copy(), [EPS[0].copy()]
    before = {name: array.copy() for name, array in M.params.items()}
    mv.bound_and_grad(M, x, eps)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(eps[0], EPS[0])
    for name, array in before.items():
        np.testing.assert_array_equal(M.params[name], array)
