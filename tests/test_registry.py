"""Bounds and estimators that a user registers at run time: one function each, and all
that the package does with its own.
"""

import json
from inspect import signature

import numpy as np
import pytest

import minivae as mv
from minivae import bounds, cli
from minivae.check import TOLERANCE
from minivae.data import Dataset
from minivae.engine.registry import TAKEN
from minivae.gradcheck import check_pieces, small_model
from minivae.kernels import load_ops, softmax

LOG_W = 3 * np.random.default_rng(0).standard_normal((5, 6))
DEEP = ((4, 3), ((6, 5), (4, 5)))


@pytest.fixture(autouse=True)
def registries_as_they_were():
    """What a test registers is gone after it."""
    registries = mv.BOUNDS, mv.ESTIMATORS
    before = [{**registry} for registry in registries]
    yield
    for registry, entries in zip(registries, before):
        registry.clear()
        registry.update(entries)


@pytest.fixture
def mine():
    """A bound with an option. It is vr of order 1 - gamma, by other means."""

    @mv.register_bound(gamma=mv.Option(float, 0.5, "the power of the weights"))
    def mine(log_w, *, gamma):
        """The logarithm of a power mean of the weights.

        A second paragraph.
        """
        total = np.logaddexp.reduce(gamma * log_w, axis=1)
        with np.errstate(invalid="ignore"):  # where all weights are zero
            c = np.exp(gamma * log_w - total[:, None])
        value = (total - np.log(log_w.shape[1])) / gamma
        return value, c, gamma * c * (1 - c)

    return mine


@pytest.fixture
def half():
    """An estimator with an option: reparam for delta = 1, stl for delta = 0."""

    @mv.register_estimator("half-way", delta=mv.Option(float, 0.5, "the score's part"))
    def half(bound, log_w, *, delta):
        """Between reparam and stl."""
        value, c, _ = bound(log_w)
        return value, c, c, -delta * c

    return half


def two_results(log_w):
    """A bound that knows no second derivative: iwae's value and c."""
    return bounds.iwae(log_w, ops=load_ops("numpy"))[:2]


def assert_same_gradient(got, want, rtol=1e-10):
    assert got[0] == pytest.approx(want[0], rel=rtol)
    np.testing.assert_allclose(got[1].vector, want[1].vector, rtol=rtol, atol=1e-12)


def tiny():
    model = mv.VAE(9, (2,), ((6,),), rng=np.random.default_rng(0))
    return model, np.random.default_rng(1).random((50, 9))


def quick(model, images, *args, **settings):
    settings = {"k": 4, "batch": 8, "epochs": 2, "progress": False} | settings
    return mv.train(model, images, *args, **settings)


# A bound


def test_the_entry_and_the_function(mine):
    """The decorator gives the function back; the entry is checked, and has the rest."""
    assert mine(LOG_W, gamma=2.0)[0].shape == (5,)
    entry = mv.BOUNDS["mine"]
    assert entry.function is mine and entry.examples() == {"gamma": 0.5}
    assert entry.summary == "The logarithm of a power mean of the weights."
    for got, want in zip(entry(LOG_W, gamma=2), mv.BOUNDS["vr"](LOG_W, alpha=-1)):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    with pytest.raises(TypeError, match="gamma must be a real number; got 'two'"):
        entry(LOG_W, gamma="two")
    with pytest.raises(ValueError, match="'mine' needs the option gamma"):
        entry(LOG_W)
    with pytest.raises(TypeError, match="'mine' takes no option alpha"):
        entry(LOG_W, gamma=2.0, alpha=1.0)
    with pytest.raises(ValueError, match="log_w must be .B, K. with K >= 1"):
        entry(LOG_W[0], gamma=2.0)


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
@pytest.mark.parametrize("estimator", ["reparam", "stl", "dreg", "score", "vimco"])
def test_a_gradient_of_ones_own_bound(mine, estimator, kernels):
    model, x, eps = small_model(kernels, *DEEP, k=4)
    args = model, x, eps
    got = mv.bound_and_grad(*args, bound="mine", estimator=estimator, gamma=2.0)
    want = mv.bound_and_grad(*args, bound="vr", estimator=estimator, alpha=-1.0)
    assert_same_gradient(got, want)


def test_its_gradient_is_checked(mine):
    model, x, eps = small_model("numba", *DEEP, k=4)
    checks = mv.check_gradients(model, x, eps, "mine", gamma=2.0)
    assert [check.name for check in checks] == list(model.params)
    assert max(check.error for check in checks) <= TOLERANCE
    checks = check_pieces("numpy")
    names = {check.name for check in checks}
    assert {"mine, c: log_w", "mine, dc: log_w"} <= names
    assert max(check.error for check in checks) <= TOLERANCE


@pytest.mark.parametrize("i, wrong", [(1, "c"), (2, "dc")])
def test_a_wrong_derivative_is_seen(mine, i, wrong):
    def spoiled(log_w, *, gamma):
        rows = [*mine(log_w, gamma=gamma)]
        rows[i] = rows[i] * 1.001
        return rows

    gamma = mv.BOUNDS["mine"].options["gamma"]
    mv.register_bound("spoiled", gamma=gamma)(spoiled)
    checks = check_pieces("numpy")
    names = [check.name for check in checks if not check.error <= TOLERANCE]
    # dc is compared with finite differences of c, and so fails with either
    assert f"spoiled, {wrong}: log_w" in names
    assert {*names} <= {"spoiled, c: log_w", "spoiled, dc: log_w"}


def test_training_by_it(mine, tmp_path):
    model, images = tiny()
    run = quick(model, images, "mine", folder=tmp_path, gamma=2, test_images=images)
    other, _ = tiny()
    by_vr = quick(other, images, "vr", alpha=-1, test_images=images)
    for column in ("bound", "test_bound"):
        np.testing.assert_allclose(run.history[column], by_vr.history[column])
    assert mv.load_run(tmp_path).config["options"] == {"gamma": 2.0}
    resumed, _ = tiny()
    run = quick(resumed, images, "mine", folder=tmp_path, gamma=2, test_images=images,
                epochs=3)  # fmt: skip
    assert run.history["epoch"] == [1, 2, 3]
    with pytest.raises(ValueError, match="options was {'gamma': 2.0}, is"):
        quick(model, images, "mine", folder=tmp_path, gamma=1.0, test_images=images)


def test_dead_rows_and_a_single_sample(mine):
    log_w = LOG_W.copy()
    log_w[1], log_w[3, 1:] = -np.inf, -np.inf
    value, c, dc = mv.BOUNDS["mine"](log_w, gamma=2.0)
    assert value[1] == -np.inf and not c[1].any() and not dc[1].any()
    np.testing.assert_array_equal(c[3], np.eye(6)[0])
    np.testing.assert_allclose(np.delete(c, 1, axis=0).sum(axis=1), 1, rtol=1e-12)
    value, c, dc = mv.BOUNDS["mine"](LOG_W[:, :1], gamma=2.0)
    np.testing.assert_allclose(value, LOG_W[:, 0], rtol=1e-14)
    assert (c == 1).all() and (dc == 0).all()
    model, x, eps = small_model("numba", *DEEP, k=1)
    got = mv.bound_and_grad(model, x, eps, "mine", gamma=2.0)
    assert_same_gradient(got, mv.bound_and_grad(model, x, eps, "elbo"))


# A bound that returns value and c alone


@pytest.mark.parametrize("backward", ["all", "sparse"])
@pytest.mark.parametrize("estimator", ["reparam", "stl", "score", "vimco"])
def test_a_bound_without_dc(estimator, backward):
    mv.register_bound("mine")(two_results)
    value, c, dc = mv.BOUNDS["mine"](LOG_W)
    assert value.shape == (5,) and c.shape == (5, 6) and dc is None
    model, x, eps = small_model("numpy", *DEEP, k=4)
    got, want = (
        mv.bound_and_grad(
            model, x, eps, bound, estimator,
            backward=backward, rng=np.random.default_rng(0),
        )
        for bound in ("mine", "iwae")
    )  # fmt: skip
    assert_same_gradient(got, want)


def test_dreg_says_what_it_misses(tmp_path):
    mv.register_bound("mine")(two_results)
    model, images = tiny()
    x, eps = np.ones((2, 9)), model.draw_eps(2, 4, np.random.default_rng(0))
    message = "estimator 'dreg' needs the bound's second derivative, and this bound"
    with pytest.raises(ValueError, match=f"{message} returns value and c alone"):
        mv.bound_and_grad(model, x, eps, "mine", "dreg")
    with pytest.raises(ValueError, match=message):
        quick(model, images, "mine", estimator="dreg", folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()  # before any work
    names = {check.name for check in check_pieces("numpy")}
    assert "mine, c: log_w" in names and "mine, dc: log_w" not in names


# Functions that are assigned, and functions that are refused


def test_a_bare_function_becomes_an_entry():
    mv.BOUNDS["mine"] = two_results
    entry = mv.BOUNDS["mine"]
    assert (entry.name, entry.function, entry.options) == ("mine", two_results, {})
    model, x, eps = small_model("numpy", *DEEP, k=4)
    got = mv.bound_and_grad(model, x, eps, "mine")
    assert_same_gradient(got, mv.bound_and_grad(model, x, eps, "iwae"))
    log_w = np.full((1, 3), -np.inf)
    assert not entry(log_w)[1].any()
    mv.ESTIMATORS["plain"] = lambda bound, log_w: mv.ESTIMATORS["reparam"](bound, log_w)
    got = mv.bound_and_grad(model, x, eps, estimator="plain")
    assert_same_gradient(got, mv.bound_and_grad(model, x, eps))


def refuse(kind, function, error, **options):
    """The message, by the decorator, and by assignment where there are no options."""
    decorate = {"bound": mv.register_bound, "estimator": mv.register_estimator}[kind]
    registry = {"bound": mv.BOUNDS, "estimator": mv.ESTIMATORS}[kind]
    with pytest.raises(error) as caught:
        decorate("refused", **options)(function)
    if not options:
        with pytest.raises(error):
            registry["refused"] = function
        with pytest.raises(error):
            registry.update(refused=function)
    assert "refused" not in registry
    return str(caught.value)


KINDS = {
    "bound": lambda log_w, *, gamma, ops: None,
    "estimator": lambda bound, log_w, *, gamma, ops: None,
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_option_that_is_not_declared_is_refused(kind):
    message = refuse(kind, KINDS[kind], ValueError)
    words = f"{kind} 'refused' takes the keywords ['gamma'], its options are {{}}"
    assert words in message
    assert f"@register_{kind}(gamma=Option(float, 0.5, 'what gamma does'))" in message


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_option_is_refused(kind):
    assert "gamma=Option(" in refuse(kind, KINDS[kind], ValueError, gamma=0.5)
    with pytest.raises(TypeError, match="type is int or float; got <class 'bool'>"):
        mv.Option(bool, True, "")


@pytest.mark.parametrize("kind", KINDS)
def test_an_option_that_is_not_behind_a_star_is_refused(kind):
    functions = {
        "bound": lambda log_w, gamma: None,
        "estimator": lambda bound, log_w, gamma: None,
    }
    assert "follow behind *; got (" in refuse(kind, functions[kind], TypeError)


@pytest.mark.parametrize("kind", KINDS)
def test_the_decorator_needs_its_parentheses(kind):
    decorate = {"bound": mv.register_bound, "estimator": mv.register_estimator}[kind]
    with pytest.raises(TypeError, match="with its parentheses"):

        @decorate
        def refused(log_w):
            raise AssertionError


def test_an_option_of_a_name_that_train_has_is_refused():
    def mine(log_w, *, tau):
        raise AssertionError

    tau = mv.Option(float, 0.5, "unused")
    assert "`train` has one" in refuse("bound", mine, ValueError, tau=tau)
    names = {*signature(mv.train).parameters, *signature(mv.bound_and_grad).parameters}
    assert names - {"options"} == TAKEN


def test_a_closed_form_keeps_its_name():
    with pytest.raises(ValueError, match="name of a closed form"):
        mv.register_bound("elbo_kl")(bounds.elbo)


def test_an_option_that_the_function_has_not_is_refused():
    words = "'two_results' takes the keywords .., its options are .'gamma'"
    with pytest.raises(ValueError, match=words):
        mv.register_bound(gamma=mv.Option(float, 0.5, "unused"))(two_results)
    assert "two_results" not in mv.BOUNDS


def test_an_option_with_a_default_may_be_left_out():
    @mv.register_bound(shift=mv.Option(float, 0.5, "what is added"))
    def shifted(log_w, *, shift=1.0):
        value, c, dc = bounds.elbo(log_w)
        return value + shift, c, dc

    elbo, _, _ = mv.BOUNDS["elbo"](LOG_W)
    np.testing.assert_array_equal(mv.BOUNDS["shifted"](LOG_W)[0], elbo + 1)
    np.testing.assert_array_equal(mv.BOUNDS["shifted"](LOG_W, shift=2)[0], elbo + 2)


# The model's kernels


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_a_function_that_asks_for_ops_gets_the_models(kernels):
    given = []

    @mv.register_bound()
    def mine(log_w, *, ops):
        given.append(ops)
        return bounds.iwae(log_w, ops=ops)

    @mv.register_estimator()
    def with_ops(bound, log_w, *, ops):
        given.append(ops)
        value, c, _ = bound(log_w)
        return value, c, c, -c

    model, x, eps = small_model(kernels, *DEEP, k=4)
    got = mv.bound_and_grad(model, x, eps, "mine", "with_ops")
    assert_same_gradient(got, mv.bound_and_grad(model, x, eps, "iwae"))
    assert len(given) >= 2 and all(ops is model.ops for ops in given)
    given.clear()
    mv.BOUNDS["mine"](LOG_W)
    mv.BOUNDS["mine"](LOG_W, ops=load_ops(kernels))
    mv.ESTIMATORS["with_ops"](mv.BOUNDS["elbo"], LOG_W)
    mv.ESTIMATORS["with_ops"](mv.BOUNDS["elbo"], LOG_W, ops=load_ops(kernels))
    assert [ops.name for ops in given] == ["numpy", kernels, "numpy", kernels]


@pytest.mark.parametrize(
    "bound, estimator",
    [
        (name, "reparam")
        for name, entry in mv.BOUNDS.items()
        if "ops" in entry.keywords()
    ]
    + [("iwae", estimator) for estimator in mv.ESTIMATORS],
)
def test_no_other_kernels_than_the_models_are_used(bound, estimator, monkeypatch):
    """piwae, too, hands them on to both of its bounds."""

    def refuse(log_w):
        raise AssertionError("NumPy's softmax, in a numba model")

    monkeypatch.setattr(softmax.VERSIONS["numpy"], "softmax", refuse)
    options = mv.BOUNDS[bound].examples() | mv.ESTIMATORS[estimator].examples()
    model, x, eps = small_model("numba", *DEEP, k=4)
    mv.bound_and_grad(model, x, eps, bound, estimator, **options)
    model, x, eps = small_model("numpy", *DEEP, k=4)
    with pytest.raises(AssertionError, match="NumPy's softmax"):
        mv.bound_and_grad(model, x, eps, bound, estimator, **options)


# Options


@pytest.mark.parametrize(
    "bound, options, want",
    [
        ("miwae", {"m": np.int64(2)}, {"m": 2}),
        ("miwae", {"m": np.uint8(2)}, {"m": 2}),
        ("ciwae", {"beta": np.float32(0.25)}, {"beta": 0.25}),
        ("vr", {"alpha": np.float64(0.5)}, {"alpha": 0.5}),
        ("vr", {"alpha": 1}, {"alpha": 1.0}),
    ],
)
def test_numbers_of_numpy_are_options(bound, options, want, tmp_path):
    model, images = tiny()
    quick(model, images, bound, folder=tmp_path, **options)
    written = json.loads((tmp_path / "config.json").read_text())["options"]
    assert written == want
    assert [*map(type, written.values())] == [*map(type, want.values())]
    other, _ = tiny()
    quick(other, images, bound, **want)
    np.testing.assert_array_equal(model.params.vector, other.params.vector)
    resumed, _ = tiny()  # by Python's numbers
    assert len(quick(resumed, images, bound, folder=tmp_path, **want).history) == 4


# An estimator


@pytest.mark.parametrize("delta, like", [(1, "reparam"), (0.0, "stl")])
def test_ones_own_estimator(half, delta, like):
    model, x, eps = small_model("numba", *DEEP, k=4)
    got = mv.bound_and_grad(model, x, eps, estimator="half-way", delta=delta)
    assert_same_gradient(got, mv.bound_and_grad(model, x, eps, estimator=like))
    model, images = tiny()
    quick(model, images, estimator="half-way", delta=delta)
    other, _ = tiny()
    quick(other, images, estimator=like)
    np.testing.assert_allclose(model.params.vector, other.params.vector, rtol=1e-5)


def test_an_estimator_and_a_bound_share_an_option(mine):
    seen = []

    @mv.register_estimator(gamma=mv.Option(float, 0.5, "the same"))
    def sees(bound, log_w, *, gamma):
        seen.append(gamma)
        return mv.ESTIMATORS["stl"](bound, log_w)

    model, x, eps = small_model("numpy", *DEEP, k=4)
    got = mv.bound_and_grad(model, x, eps, "mine", "sees", gamma=2)
    want = mv.bound_and_grad(model, x, eps, "mine", "stl", gamma=2)
    assert_same_gradient(got, want)
    assert {*seen} == {2.0} and {*map(type, seen)} == {float}


def test_an_estimator_for_one_bound():
    settings = {"only_for": "elbo", "because": "this is a test"}

    @mv.register_estimator(**settings)
    def narrow(bound, log_w):
        return mv.ESTIMATORS["reparam"](bound, log_w)

    model, x, eps = small_model("numpy", *DEEP, k=4)
    mv.bound_and_grad(model, x, eps, "elbo", "narrow")
    words = "'narrow' is for bound 'elbo' only, not 'iwae': this is a test"
    with pytest.raises(ValueError, match=words):
        mv.bound_and_grad(model, x, eps, "iwae", "narrow")


def test_training_fills_in_the_baseline_of_any_estimator():
    """As that of score: a running mean of the bound, which starts at zero."""
    seen = []

    @mv.register_estimator(baseline=mv.Option(float, 0.0, "any number"))
    def own_score(bound, log_w, *, baseline=0.0):
        seen.append(float(baseline))
        return mv.ESTIMATORS["score"].function(bound, log_w, baseline=baseline)

    model, images = tiny()
    run = quick(model, images, estimator="own_score")
    other, _ = tiny()
    by_score = quick(other, images, estimator="score")
    assert run.history["bound"] == by_score.history["bound"]
    np.testing.assert_array_equal(model.params.vector, other.params.vector)
    assert seen[:2] == [0, 0] and len({*seen}) == 14  # the first by resolve


# The command line


def help_of(capsys, monkeypatch, *argv):
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit) as stop:
        cli.main([*argv])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_the_command_line_offers_them(mine, half, capsys, monkeypatch):
    argv = ["train", "--bound", "mine", "--gamma", "2", "--out", "x"]
    args = cli.parser().parse_args([*argv, "--estimator", "half-way", "--delta", "0"])
    assert (args.bound, args.gamma) == ("mine", 2.0)
    assert (args.estimator, args.delta) == ("half-way", 0.0)
    help = help_of(capsys, monkeypatch, "train", "--help")
    assert "Of bound mine: the power of the weights." in help
    assert "Of estimator half-way: the score's part." in help
    table = help_of(capsys, monkeypatch, "train", "--help-estimators")
    assert "\nhalf-way   all      Between reparam and stl.\n" in table
    assert ", jackknife, mine. elbo_kl" in table
    del mv.BOUNDS["mine"]
    with pytest.raises(ValueError, match="invalid choice: 'mine'"):
        cli.parser().parse_args(argv)


def test_the_command_line_trains_by_them(mine, half, tmp_path, monkeypatch):
    images = np.random.default_rng(0).random((60, 784), np.float32)
    labels = np.zeros(60, np.uint8)
    data = Dataset(images, labels, images[:20], labels[:20])
    monkeypatch.setattr("minivae.data.load", lambda name, **options: data)
    argv = ["train", "--hidden-dims", "5", "--latent-dims", "2", "--epochs", "1"]
    argv += ["--k", "2", "--bound", "mine", "--gamma", "2", "--out", str(tmp_path)]
    assert cli.main([*argv, "--estimator", "half-way", "--delta", "0.5"]) == 0
    config = mv.load_run(tmp_path).config
    assert (config["bound"], config["estimator"]) == ("mine", "half-way")
    assert config["options"] == {"gamma": 2.0, "delta": 0.5}
