"""What is maximised, and by which gradient: names and options, resolved once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .checks import choose, did_you_mean
from .registry import BOUNDS, CLOSED_FORMS, ESTIMATORS, TAKEN, bound_names

BACKWARDS = ("all", "single", "sparse")


@dataclass(frozen=True)
class Objective:
    """A bound, an estimator, and which samples go through the backward pass.

    Attributes
    ----------
    bound : callable
        log_w -> value, c, dc.
    estimator : callable
        bound, log_w -> value, theta, path, score.
    closed_form : callable, optional
        The gradient of a bound that is no function of log-weights; ``bound`` has the
        same mean then.
    backward : str
        "all" samples, a "single" one, or a "sparse" choice.
    tau : float
        The threshold of "sparse".
    has_baseline : bool
        Whether the estimator has the option ``baseline``.
    options : dict
        Those of the bound and of the estimator, converted to Python's numbers.
    """

    bound: Callable
    estimator: Callable
    closed_form: Callable | None
    backward: str
    tau: float
    has_baseline: bool
    options: dict

    def uniform_numbers(self, k):
        """How many uniform numbers choose among the ``k`` samples of an image."""
        return {"all": 0, "single": 1, "sparse": k}[self.backward]


def resolve(model, k, bound, estimator, options, *, backward="all", tau=0.1):
    """The `Objective` of these names and options, for a model and ``k`` samples.

    Raises
    ------
    ValueError, TypeError
        For names and options that are unknown, missing, or do not go together.
    """
    choose("bound", bound, bound_names())
    choose("estimator", estimator, ESTIMATORS)
    choose("backward", backward, BACKWARDS)
    if not 0 < tau < np.inf:
        raise ValueError(f"tau must be positive; got {tau!r}")
    closed_form, layers = CLOSED_FORMS.get(bound), len(model.latent_dims)
    if closed_form and (layers != 1 or estimator != "reparam" or backward != "all"):
        raise ValueError(
            f"bound {bound!r} has a closed form for one stochastic layer, estimator"
            " 'reparam' and backward 'all' only;"
            f" got {layers} layer{'s' * (layers > 1)}, estimator {estimator!r} and"
            f" backward {backward!r}"
        )
    bound_entry, estimator_entry = (
        BOUNDS[closed_form.of if closed_form else bound],
        ESTIMATORS[estimator],
    )
    if estimator_entry.only_for not in (None, bound):
        raise ValueError(
            f"estimator {estimator!r} is for bound {estimator_entry.only_for!r} only,"
            f" not {bound!r}: {estimator_entry.because}"
        )
    known = bound_entry.options.keys() | estimator_entry.options.keys()
    unknown, known = options.keys() - known, known | TAKEN
    if unknown:
        raise ValueError(
            f"bound {bound!r} and estimator {estimator!r} take no option"
            f" {', '.join(sorted(unknown))}{did_you_mean(min(unknown), known)}"
        )
    objective = Objective(
        bound=bound_entry.bind(model.ops, options),
        estimator=estimator_entry.bind(model.ops, options),
        closed_form=closed_form and closed_form.function,
        backward=backward,
        tau=tau,
        has_baseline="baseline" in estimator_entry.options,
        options=bound_entry.check_options(options)
        | estimator_entry.check_options(options),
    )
    # a trial on zeros: a bound that needs K >= 2, or an m that does not divide K,
    # raises its error here and not in the middle of a run
    objective.estimator(objective.bound, model.to_device(np.zeros((1, k))))
    return objective
