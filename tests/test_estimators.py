"""Every estimator's mean against that of the plain gradient: exactly by quadrature and
by enumeration where it can be, and by averages on models of each depth.
"""

import itertools

import numpy as np
import pytest
from scipy import special

import minivae as mv
from minivae.engine.objective import resolve
from minivae.gradcheck import small_model
from minivae.kernels import Ops
from minivae.log_weights import log_weights_backward, log_weights_forward
from minivae.networks import encoder_backward, encoder_forward
from minivae.subsampling import kept_rows, subsample

UNBIASED = ("dreg", "score", "vimco")  # for every bound here; stl for elbo, see below
ROWS = ("theta", "path", "score")
# an estimator and a row of it that is not zero throughout
NOT_ZERO = [
    ("dreg", "theta"),
    ("dreg", "path"),
    ("score", "theta"),
    ("score", "score"),
    ("vimco", "theta"),
    ("vimco", "score"),
]


def options_of(bound, estimator, K):
    """Options that suit K samples."""
    options = mv.BOUNDS[bound].examples() | mv.ESTIMATORS[estimator].examples()
    return options | ({"m": K} if "m" in options and K % 2 else {})


def backward_of(model, cache, rows, grads, select=kept_rows):
    """dmu and dlog_sigma of q_1, for ``rows``: theta, path, score."""
    rows = dict(zip(ROWS, rows, strict=True))
    return log_weights_backward(model, cache, grads, **rows, select=select)


# Quadrature over eps: K = 2, one latent unit, 120 x 120 nodes


def quadrature_model():
    rng = np.random.default_rng(0)
    model = mv.VAE(3, (1,), ((4,),), dtype=np.float64, rng=rng, kernels="numpy")
    for name, array in model.params.items():
        array += 0.3 * rng.standard_normal(array.shape)
        if name.startswith("q1.log_sigma"):
            array *= 0.3
    u, weight = special.roots_hermitenorm(120)
    eps = np.array(list(itertools.product(u, u)))[:, :, None]  # (14400, 2, 1)
    weight = np.outer(weight, weight).ravel() / weight.sum() ** 2
    return model, np.array([[1.0, 0.0, 1.0]]), eps, weight


MODEL, X, EPS, WEIGHT = quadrature_model()


def exact_mean(rows_of):
    """The gradient's mean over eps, an array per parameter, as one vector.

    ``rows_of`` maps log_w to theta, path, score.
    """
    n = len(EPS)
    grads = MODEL.params.zeros()
    x = np.repeat(X, n, axis=0)
    q1, q1_hs = encoder_forward(MODEL, x)
    log_w, cache = log_weights_forward(MODEL, x, q1, [EPS])
    rows = [WEIGHT[:, None] * row for row in rows_of(log_w)]
    dq1 = backward_of(MODEL, cache, rows, grads)
    encoder_backward(MODEL, dq1, q1_hs, grads)
    return grads


def objective_of(bound, estimator):
    """Of two samples of the model above."""
    return resolve(MODEL, 2, bound, estimator, options_of(bound, estimator, 2))


def estimator_mean(bound, estimator):
    objective = objective_of(bound, estimator)
    return exact_mean(lambda log_w: objective.estimator(objective.bound, log_w)[1:])


def split(grads):
    """theta and phi, each as one vector."""
    return [
        np.concatenate([grads[name].ravel() for name in grads if name[0] == letter])
        for letter in "pq"
    ]


def assert_equal(got, want, tolerance=1e-9):
    for a, b in zip(split(got), split(want)):
        assert np.linalg.norm(a - b) <= tolerance * max(1, np.linalg.norm(b))


@pytest.mark.parametrize("bound", mv.BOUNDS)
@pytest.mark.parametrize("estimator", UNBIASED)
def test_unbiased_to_the_ninth_digit(bound, estimator):
    assert_equal(estimator_mean(bound, estimator), estimator_mean(bound, "reparam"))


def test_stl_is_unbiased_for_the_elbo():
    assert_equal(estimator_mean("elbo", "stl"), estimator_mean("elbo", "reparam"))


@pytest.mark.parametrize("bound", ["iwae", "vr", "ciwae", "jackknife"])
def test_stl_is_biased_by_dc(bound):
    """E stl - E reparam = E sum_k dc_k path term, which is not small (eq. 15.2)."""
    bound_of = objective_of(bound, "stl").bound

    def bias_rows(log_w):
        _, _, dc = bound_of(log_w)
        return 0 * dc, dc, 0 * dc

    theta, phi = split(exact_mean(bias_rows))
    stl, plain = (split(estimator_mean(bound, name)) for name in ("stl", "reparam"))
    assert np.linalg.norm(stl[1] - plain[1] - phi) < 1e-9
    assert np.linalg.norm(phi) > 0.01 * np.linalg.norm(plain[1])
    assert np.linalg.norm(stl[0] - plain[0]) < 1e-12


def test_rws_has_another_mean_and_rws_dreg_has_it_too():
    """RWS's phi is stl's less reparam's, draw by draw, so its mean is stl's bias."""
    rws, plain = estimator_mean("iwae", "rws"), estimator_mean("iwae", "reparam")
    assert_equal(estimator_mean("iwae", "rws-dreg"), rws)

    def bias_rows(log_w):
        _, _, dc = mv.BOUNDS["iwae"](log_w)
        return 0 * dc, dc, 0 * dc

    _, phi = split(exact_mean(bias_rows))
    assert np.linalg.norm(split(rws)[1] - phi) < 1e-9
    assert np.linalg.norm(split(rws)[1] - split(plain)[1]) > 0.1 * np.linalg.norm(phi)
    assert np.linalg.norm(split(rws)[0] - split(plain)[0]) < 1e-12


def test_piwae_is_two_bounds():
    theta, phi = split(estimator_mean("iwae", "piwae"))
    assert np.linalg.norm(theta - split(estimator_mean("iwae", "reparam"))[0]) < 1e-12
    assert np.linalg.norm(phi - split(estimator_mean("elbo", "reparam"))[1]) < 1e-12


@pytest.mark.parametrize("estimator, row", NOT_ZERO)
def test_a_planted_sign_is_seen_by_quadrature(estimator, row):
    objective = objective_of("iwae", estimator)

    def wrong_rows(log_w):
        rows = dict(zip(ROWS, objective.estimator(objective.bound, log_w)[1:]))
        assert rows[row].any()
        return (rows | {row: -rows[row]}).values()

    wrong, right = exact_mean(wrong_rows), estimator_mean("iwae", "reparam")
    with pytest.raises(AssertionError):
        assert_equal(wrong, right, 1e-3)


# Draw by draw


def grads_of(model, x, eps, bound="iwae", estimator="reparam", **options):
    return mv.bound_and_grad(model, x, eps, bound, estimator, **options)[1]


@pytest.mark.parametrize("depth", [1, 2])
def test_identities_of_single_draws(depth):
    """stl - rws = reparam, and dreg + rws-dreg = stl, for phi and at every draw."""
    model, x, eps = small_model("numpy", (3, 2)[:depth], ((5,), (4,))[:depth])
    names = "reparam", "stl", "dreg", "rws", "rws-dreg"
    g = {name: grads_of(model, x, eps, estimator=name) for name in names}
    for name in (name for name in model.params if name[0] == "q"):
        np.testing.assert_allclose(
            g["stl"][name] - g["rws"][name], g["reparam"][name], rtol=1e-9, atol=1e-12
        )
        np.testing.assert_allclose(
            g["dreg"][name] + g["rws-dreg"][name], g["stl"][name], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("estimator", ["stl", "dreg"])
@pytest.mark.parametrize("K", [1, 4])
def test_no_variance_at_the_posterior(estimator, K):
    """A decoder that ignores z has the prior for a posterior; with q equal to it, phi's
    gradient is zero at every draw, where the plain one is not.
    """
    model = mv.VAE(4, (2,), ((3,),), dtype=np.float64, rng=np.random.default_rng(0))
    for name in ("p1.hidden1.W", "q1.mu.W", "q1.log_sigma.W"):
        model.params[name][...] = 0
    x, eps = np.eye(4), model.draw_eps(4, K, np.random.default_rng(1))
    quiet = grads_of(model, x, eps, estimator=estimator)
    plain = grads_of(model, x, eps)
    assert max(np.abs(quiet[n]).max() for n in quiet if n[0] == "q") < 1e-15
    assert max(np.abs(plain[n]).max() for n in plain if n[0] == "q") > 0.1


def test_dreg_of_the_iwae_is_the_squared_weights():
    log_w = np.random.default_rng(0).standard_normal((3, 5))
    _, w_norm, _ = mv.BOUNDS["iwae"](log_w)
    _, _, path, _ = mv.ESTIMATORS["dreg"](mv.BOUNDS["iwae"], log_w)
    np.testing.assert_allclose(path, w_norm**2, rtol=1e-12)


def test_vimco_leaves_one_out():
    """Against a loop that replaces one log-weight at a time."""
    log_w = np.random.default_rng(0).standard_normal((3, 5))
    value, c, path, score = mv.ESTIMATORS["vimco"](mv.BOUNDS["iwae"], log_w)
    for b, k in itertools.product(range(3), range(5)):
        row = log_w[b].copy()
        row[k] = np.delete(row, k).mean()
        baseline = special.logsumexp(row) - np.log(5)
        assert score[b, k] == pytest.approx(value[b] - baseline - c[b, k])
    assert not path.any()


def test_score_has_no_baseline_unless_it_is_given():
    log_w = np.random.default_rng(0).standard_normal((2, 5))
    value, c, _, score = mv.ESTIMATORS["score"](mv.BOUNDS["iwae"], log_w)
    np.testing.assert_array_equal(score, value[:, None] - c)
    *_, score = mv.ESTIMATORS["score"](mv.BOUNDS["iwae"], log_w, baseline=-3.0)
    np.testing.assert_array_equal(score, value[:, None] + 3 - c)


# Fewer samples in the backward pass


class Uniforms(np.random.Generator):
    """A generator whose uniform numbers are given."""

    def __init__(self, numbers):
        super().__init__(np.random.PCG64(0))
        self.numbers = numbers

    def random(self, shape):
        return np.broadcast_to(self.numbers, shape)


def enumerate_masks(theta, path, tau):
    """(probability, uniform) of every mask of one image, by the rule in words."""
    a = np.maximum(abs(theta), abs(path))[0]
    for mask in itertools.product((True, False), repeat=len(a)):
        probability, numbers = 1.0, []
        for kept, a_k in zip(mask, a):
            pi = min(1, a_k / tau)
            probability *= pi if kept else 1 - pi
            numbers.append(0.0 if kept else np.nextafter(1, 0))
        yield probability, np.array([numbers])


def enumerate_single(theta, path):
    a = np.maximum(abs(theta), abs(path))[0]
    edges = np.concatenate([[0], np.cumsum(a / a.sum())])
    for k in range(len(a)):
        yield a[k] / a.sum(), np.array([[(edges[k] + edges[k + 1]) / 2]])


@pytest.mark.parametrize("backward", ["sparse", "single"])
@pytest.mark.parametrize("estimator", ["reparam", "stl", "dreg", "score", "rws"])
def test_subsampling_has_the_right_mean(backward, estimator):
    """All masks enumerated: coefficients and gradients, to rounding."""
    model, x, eps = small_model("numpy", (3,), ((5,),))
    x, eps, tau = x[:1], [eps[0][:1]], 0.5
    log_w, options = model.log_weights(x, eps), options_of("iwae", estimator, 3)
    objective = resolve(model, 3, "iwae", estimator, options, backward=backward)
    _, theta, path, _ = objective.estimator(objective.bound, log_w)
    cases = (
        enumerate_masks(theta, path, tau)
        if backward == "sparse"
        else enumerate_single(theta, path)
    )
    full = grads_of(model, x, eps, "iwae", estimator, **options)
    mean_rows, mean_grads = 0, {name: 0 for name in full}
    total = 0
    for probability, uniform in cases:
        if probability == 0:
            continue
        total += probability
        assert uniform.shape == (1, objective.uniform_numbers(3))
        scale = subsample(theta, path, backward, tau=tau, uniform=uniform)
        mean_rows = mean_rows + probability * scale * np.array([theta, path])
        settings = {"backward": backward, "tau": tau, "rng": Uniforms(uniform)}
        fewer = grads_of(model, x, eps, "iwae", estimator, **settings, **options)
        for name in full:
            mean_grads[name] = mean_grads[name] + probability * fewer[name]
    assert total == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(mean_rows, [theta, path], rtol=1e-12)
    for name in full:
        np.testing.assert_allclose(mean_grads[name], full[name], rtol=1e-10, atol=1e-12)


def test_subsampling_keeps_what_counts():
    theta = np.array([[0.5, 0.05, 0.001, 0.0], [0, 0, 0, 0]])
    rng = np.random.default_rng(0)

    def draws(backward, numbers):
        for _ in range(4000):
            uniform = rng.random((2, numbers))
            yield subsample(theta, theta, backward, tau=0.1, uniform=uniform) != 0

    kept = [*draws("sparse", 4)]
    np.testing.assert_allclose(np.mean(kept, axis=0)[0], [1, 0.5, 0.01, 0], atol=0.03)
    drawn = [*draws("single", 1)]
    assert (np.sum(drawn, axis=2) == [1, 0]).all()
    probability = theta[0] / theta[0].sum()
    np.testing.assert_allclose(np.mean(drawn, axis=0)[0], probability, atol=0.03)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("small", [0, 1e-30])
def test_rows_that_count_for_nothing_are_left_out(depth, small):
    """The same gradient with and without them, on both kinds of cache."""
    model, x, eps = small_model("numba", (3, 2)[:depth], ((5,), (4,))[:depth])
    rng = np.random.default_rng(0)
    theta, path, score = (rng.standard_normal((4, 3)) for _ in range(3))
    theta[:, 1] = path[:, 1] = small
    results, chosen = [], []

    def kept(keep, theta):
        rows, theta = kept_rows(keep, theta)
        chosen.extend(rows)
        return rows, theta

    def every(keep, theta):
        return slice(None), theta

    for select in (kept, every):
        grads = model.params.zeros()
        q1, _ = encoder_forward(model, x)
        _, cache = log_weights_forward(model, x, q1, eps)
        dq1 = backward_of(model, cache, (theta, path, score), grads, select)
        results.append([*dq1, *grads.values()])
    assert chosen == [0, 2, 3, 5, 6, 8, 9, 11]
    for without, of_all in zip(*results):
        np.testing.assert_allclose(without, of_all, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_every_row_is_zero(depth, kernels):
    """As where every weight of a chunk is zero: the gradient is zero, not garbage."""
    model, x, eps = small_model(kernels, (3, 2)[:depth], ((5,), (4,))[:depth])
    grads = model.params.uninitialised_like()
    grads.vector[:] = np.nan
    q1, q1_hs = encoder_forward(model, x)
    _, cache = log_weights_forward(model, x, q1, eps)
    dq1 = backward_of(model, cache, np.zeros((3, 4, 3)), grads)
    encoder_backward(model, dq1, q1_hs, grads)
    assert not grads.vector.any()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("estimator", ["reparam", "stl", "score"])
def test_the_sparse_backward_keeps_no_sample(likelihood, estimator):
    """As can happen with a large tau: what needs no decoder is left, the score; and
    that of the plain gradient goes with the path that it cancels.
    """
    rng = np.random.default_rng(0)
    model = mv.VAE(4, (2,), ((3,),), likelihood, np.float64, rng=rng)
    x, eps = np.eye(4), model.draw_eps(4, 3, rng)
    settings = {"backward": "sparse", "tau": 2.0, "rng": Uniforms(np.nextafter(1, 0))}
    value, grads = mv.bound_and_grad(model, x, eps, estimator=estimator, **settings)
    assert value == mv.bound_and_grad(model, x, eps)[0]
    for name, array in grads.items():
        scored = estimator == "score" and name[0] == "q"
        assert np.isfinite(array).all() and array.any() == scored, name


# Averages: 200 batch means of the difference from the plain gradient at the same eps

BATCHES, PER_BATCH, K = 200, 1200, 4


def depth_model(depth):
    rng = np.random.default_rng(depth)
    latent, hidden = ((2,), ((4,),)) if depth == 1 else ((2, 2), ((4,), (3,)))
    model = mv.VAE(5, latent, hidden, dtype=np.float64, rng=rng)
    for name, array in model.params.items():
        array += 0.2 * rng.standard_normal(array.shape)
        if "log_sigma" in name:
            array *= 0.3
    return model, (rng.random((3, 5)) < 0.5) * 1.0


def batch_means(depth, gradients):
    """(gradients, BATCHES, arrays): each array's projection on its plain mean."""
    model, x = depth_model(depth)
    x = np.tile(x, (PER_BATCH // 3, 1))
    rng = np.random.default_rng(10 + depth)
    names, records = list(model.params), []
    for _ in range(BATCHES):
        eps = model.draw_eps(PER_BATCH, K, rng)
        records.append(
            [
                np.concatenate([grads[name].ravel() for name in names])
                for grads in (gradient(model, x, eps, rng) for gradient in gradients)
            ]
        )
    records = np.array(records)  # (BATCHES, gradients, parameters)
    edges = np.cumsum([model.params[name].size for name in names])[:-1]
    mean = records[:, 0].mean(axis=0)
    projections = []
    for part, axis in zip(
        np.split(records, edges, axis=2), np.split(mean, edges), strict=True
    ):
        projections.append(part @ (axis / np.linalg.norm(axis)))
    return np.moveaxis(np.array(projections), 0, -1)  # (BATCHES, gradients, arrays)


def gradient_by(bound, estimator, **settings):
    options = options_of(bound, estimator, K) | settings

    def gradient(model, x, eps, rng):
        chooses = {"rng": rng} if "backward" in settings else {}
        return grads_of(model, x, eps, bound, estimator, **options, **chooses)

    return gradient


def z_scores(projections):
    """z of each array's difference from the plain mean, and the relative error."""
    difference = projections[:, 1] - projections[:, 0]
    error = difference.std(axis=0, ddof=1) / np.sqrt(BATCHES)
    size = np.abs(projections[:, 0].mean(axis=0))
    exact = error < 1e-12 * size  # theta, where the rows are the same
    z = np.where(exact, 0, difference.mean(axis=0) / np.where(exact, 1, error))
    return z, error / size


COMBINATIONS = [
    (bound, estimator, settings)
    for bound in mv.BOUNDS
    for estimator, settings in [
        ("dreg", {}),
        ("vimco", {}),
        ("reparam", {"backward": "sparse", "tau": 0.3}),
        ("reparam", {"backward": "single"}),
        ("dreg", {"backward": "sparse", "tau": 0.3}),
    ]
    # with weights of both signs, vimco's signal is mostly noise: see the quadrature
    if not (bound == "jackknife" and estimator == "vimco")
]
COMBINATIONS += [(bound, "score", {}) for bound in mv.BOUNDS if bound != "jackknife"]
COMBINATIONS += [("elbo", "stl", {}), ("miwae", "stl", {"m": K})]


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("bound, estimator, settings", COMBINATIONS)
def test_unbiased_by_averages(depth, bound, estimator, settings):
    options = {"m": settings["m"]} if "m" in settings else {}
    plain = gradient_by(bound, "reparam", **options)
    tested = gradient_by(bound, estimator, **settings)
    z, relative_error = z_scores(batch_means(depth, [plain, tested]))
    assert np.abs(z).max() < 5.5, z
    assert relative_error.max() < 0.05, relative_error


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    "estimator, row", [(name, row) for name, row in NOT_ZERO if name != "score"]
)
def test_a_planted_sign_error_is_far_off(depth, estimator, row, monkeypatch):
    right = mv.ESTIMATORS[estimator]

    def wrong(bound, log_w):
        value, *rows = right(bound, log_w)
        i = ROWS.index(row)
        rows[i] = -rows[i]
        return value, *rows

    monkeypatch.setitem(mv.ESTIMATORS, estimator, wrong)
    gradients = [gradient_by("iwae", "reparam"), gradient_by("iwae", estimator)]
    z, _ = z_scores(batch_means(depth, gradients))
    assert np.abs(z).max() > 10


@pytest.mark.slow
def test_a_naive_second_layer_is_seen_by_the_iwae_alone():
    """dreg without the term of eq. 20.5, the direct dependence of log q(z_2|z_1) on z_1
    (Bauer & Mnih 2021). Its mean is zero for the ELBO, where it cannot be seen.
    """

    def naive(model, x, eps, rng):
        ops, right = model.ops, model.ops.reparameterize_backward

        def without_it(dz, eps, log_sigma, path, score):
            # q_2's second pass, for z_1: -path in score's stead is the term
            if eps.shape[1] == 1 and np.array_equal(score, -path):
                score = 0 * score
            return right(dz, eps, log_sigma, path, score)

        model.ops = Ops(**vars(ops) | {"reparameterize_backward": without_it})
        try:
            return right_dreg(model, x, eps, rng)
        finally:
            model.ops = ops

    largest = {}
    for bound in ("elbo", "iwae"):
        right_dreg = gradient_by(bound, "dreg")
        gradients = [gradient_by(bound, "reparam"), right_dreg, naive]
        projections = batch_means(2, gradients)
        assert np.abs(z_scores(projections[:, [0, 1]])[0]).max() < 5.5
        # at the same eps the two differ by the dropped term alone
        largest[bound] = np.abs(z_scores(projections[:, [1, 2]])[0]).max()
    assert largest["elbo"] < 5.5  # 0.7
    assert largest["iwae"] > 20  # 55


@pytest.mark.parametrize(
    "estimator", [name for name, entry in mv.ESTIMATORS.items() if entry.only_for]
)
def test_for_the_iwae_only(estimator):
    model, x, eps = small_model("numpy", (3,), ((5,),))
    with pytest.raises(ValueError, match="is for bound 'iwae' only, not 'elbo'"):
        mv.bound_and_grad(model, x, eps, "elbo", estimator)
