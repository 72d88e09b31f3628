"""The registries of bounds and estimators: what there is, and with which options.

The command line, its help, the gradient checks, the tests and the tables take bounds
and estimators from here and from nowhere else, so that a new one is one function::

    @mv.register_bound(gamma=mv.Option(float, 0.5, "what gamma does"))
    def mine(log_w, *, gamma): ...

A decorator gives the function back as it is. The registry's entry of that name is the
same function with its arguments checked.
"""

import inspect
from collections import UserDict
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral, Real

import numpy as np

from ..kernels import load_ops

# names that no option can have, as `minivae.train` or `bound_and_grad` has them
TAKEN = {
    *("model", "images", "x", "eps", "bound", "k", "estimator", "epochs", "batch"),
    *("learning_rate", "epsilon", "stages", "schedule", "average", "binarization"),
    *("backward", "tau", "rng", "seed", "folder", "data", "test_images"),
    *("validation_images", "progress", "callback"),
}


@dataclass(frozen=True)
class Option:
    """An option of a bound or an estimator.

    Attributes
    ----------
    type : type
        int or float. A number of another type is converted.
    example : int or float
        What the gradient checks take: a value at which the option matters.
    help : str
        What it is, for the command line.
    """

    type: type
    example: float
    help: str

    def __post_init__(self):
        if self.type not in (int, float):
            raise TypeError(f"an Option's type is int or float; got {self.type!r}")

    def convert(self, name, value):
        """``value`` as a Python number of this type, or a TypeError."""
        kind, what = {
            int: (Integral, "a whole number"),
            float: (Real, "a real number"),
        }[self.type]
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"{name} must be {what}; got {value!r}")
        return self.type(value)


@dataclass(frozen=True)
class Entry:
    """A registered function. A function that has the keyword ``ops`` is given the
    functions of the model's kernels by it; left out in a call, they are NumPy's.
    """

    name: str
    function: callable = field(repr=False)
    options: dict = field(default_factory=dict)

    kind = takes = ""  # "bound", and the function's other parameters

    def __post_init__(self):
        parameters = inspect.signature(self.function).parameters.values()
        given = ", ".join(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)
        if given.count(",") != self.takes.count(",") or not given:
            raise TypeError(
                f"{self.kind} {self.name!r} must be a function of ({self.takes}), and"
                f" its options follow behind *; got ({given})"
            )
        found, options = self.keywords().keys() - {"ops"}, self.options.values()
        all_said = all(isinstance(option, Option) for option in options)
        if found != self.options.keys() or not all_said:
            raise ValueError(
                f"{self.kind} {self.name!r} takes the keywords {sorted(found)}, its"
                f" options are {self.options}: say each in the decorator, as in"
                f" @register_{self.kind}(gamma=Option(float, 0.5, 'what gamma does'))"
            )
        taken = found & TAKEN
        if taken:
            raise ValueError(
                f"{self.kind} {self.name!r} cannot have an option {', '.join(taken)}:"
                " `train` has one of that name"
            )

    def keywords(self):
        """The function's keyword-only parameters: name -> its default."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def summary(self):
        """The first paragraph of the function's docstring, in one line."""
        paragraph = (inspect.getdoc(self.function) or "").split("\n\n")[0]
        return " ".join(paragraph.split())

    def examples(self):
        """The options that the gradient checks take."""
        return {name: option.example for name, option in self.options.items()}

    def check_options(self, options):
        """The ``options`` that this function takes, converted; or a ValueError that
        names what is missing.
        """
        for name, default in self.keywords().items():
            missing = name != "ops" and name not in options
            if missing and default is inspect.Parameter.empty:
                raise ValueError(f"{self.kind} {self.name!r} needs the option {name}")
        return {
            name: option.convert(name, options[name])
            for name, option in self.options.items()
            if name in options
        }

    def refuse_unknown(self, options):
        """Raise TypeError where ``options`` holds one that the function has not."""
        unknown = options.keys() - self.options.keys()
        if unknown:
            raise TypeError(
                f"{self.kind} {self.name!r} takes no option"
                f" {', '.join(sorted(unknown))}"
            )

    def filled_in(self, ops, options):
        """The function with its options and, if it asks for them, ``ops``."""
        if "ops" in self.keywords():
            options = {**options, "ops": ops}
        return partial(self.function, **options)


class Bound(Entry):
    """A bound: ``bound(log_w, ops=..., **options)`` returns value, c, dc.

    dc is None where the function returns value and c alone.
    """

    kind, takes = "bound", "log_w"

    def __call__(self, log_w, *, ops=None, **options):
        self.refuse_unknown(options)
        with np.errstate(under="ignore"):
            return self.bind(ops or load_ops("numpy"), options)(check_log_w(log_w))

    def bind(self, ops, options):
        """The function of log_w alone that a step calls."""
        function = self.filled_in(ops, self.check_options(options))

        def bound(log_w):
            value, c, dc = (*function(log_w), None)[:3]
            # an image whose bound is -inf cannot be improved by any small step: none of
            # its samples gets a gradient
            dead = (value == -np.inf)[:, None]
            c = np.where(dead, 0, c)
            return value, c, None if dc is None else np.where(dead, 0, dc)

        return bound


@dataclass(frozen=True)
class Estimator(Entry):
    """An estimator: ``estimator(bound, log_w, ops=..., **options)`` returns value,
    theta, path, score.

    Attributes
    ----------
    only_for, because : str, optional
        The one bound that it is for, and why.
    """

    kind, takes = "estimator", "bound, log_w"

    only_for: str | None = None
    because: str = ""

    def __call__(self, bound, log_w, *, ops=None, **options):
        self.refuse_unknown(options)
        function = self.bind(ops or load_ops("numpy"), options)
        with np.errstate(under="ignore"):
            return function(bound, check_log_w(log_w))

    def bind(self, ops, options):
        """The function of bound and log_w alone that a step calls."""
        return self.filled_in(ops, self.check_options(options))


@dataclass(frozen=True)
class ClosedForm:
    """An objective that is no function of log-weights: its name, its gradient as a
    function of (model, x, eps, grads, scale), and the bound ``of`` the same mean.
    """

    name: str
    function: callable = field(repr=False)
    of: str


class Registry(UserDict):
    """Name -> entry. A bare function that is assigned becomes an entry."""

    def __init__(self, entry_type):
        super().__init__()
        self.entry_type = entry_type

    def __setitem__(self, name, function):
        if not isinstance(function, self.entry_type):
            function = self.entry_type(name, function)
        super().__setitem__(name, function)


BOUNDS, ESTIMATORS = Registry(Bound), Registry(Estimator)
CLOSED_FORMS = Registry(ClosedForm)


def bound_names():
    """Every name that ``bound`` may be."""
    return (*BOUNDS, *CLOSED_FORMS)


def register_bound(name=None, /, **options):
    """A decorator that enters a function of log-weights into `minivae.BOUNDS`.

    The function takes ``log_w`` (B, K), float64 and checked, its options by keyword,
    and the keyword ``ops`` if it wants the model's kernels. It returns value (B,), c
    (B, K) and, where it can, dc (B, K): see `minivae.bounds`. Rows of value -inf get
    their c = dc = 0 here.

    Parameters
    ----------
    name : str, optional
        Left out, the function's own.
    **options
        Name -> `Option`, for each of the function's options.
    """

    refuse_bare(name)

    def register(function):
        entry = name or function.__name__
        if entry in CLOSED_FORMS:
            raise ValueError(f"{entry!r} is the name of a closed form")
        BOUNDS[entry] = Bound(entry, function, options)
        return function

    return register


def register_estimator(name=None, /, *, only_for=None, because="", **options):
    """A decorator that enters a function of a bound and log-weights into
    `minivae.ESTIMATORS`.

    The function takes ``bound``, which is log_w -> value, c, dc, and ``log_w`` (B, K);
    its options by keyword, and ``ops`` as for `register_bound`. It returns value (B,),
    theta, path and score (B, K): see `minivae.estimators`. `minivae.train` fills in an
    option called ``baseline`` by a running mean of the bound.

    Parameters
    ----------
    name, **options
        As for `register_bound`.
    only_for, because : str, optional
        The one bound that it is for, and why.
    """

    refuse_bare(name)

    def register(function):
        entry = name or function.__name__
        ESTIMATORS[entry] = Estimator(entry, function, options, only_for, because)
        return function

    return register


def register_closed_form(*, of):
    """A decorator that enters a function of (model, x, eps, grads, scale) as a bound by
    its own forward and backward pass; ``of`` names the bound that has the same mean.
    """

    def register(function):
        name = function.__name__
        CLOSED_FORMS[name] = ClosedForm(name, function, of)
        return function

    return register


def refuse_bare(name):
    """Raise TypeError for a decorator that is given its function at once."""
    if callable(name):
        raise TypeError("write the decorator with its parentheses, @register_...()")


def check_log_w(log_w):
    """``log_w`` as float64 of shape (B, K), or a ValueError that says what it was."""
    if not hasattr(log_w, "astype"):  # which arrays of the device have, too
        log_w = np.asarray(log_w)
    log_w = log_w.astype(np.float64, copy=False)
    if log_w.ndim != 2 or log_w.shape[1] == 0:
        raise ValueError(f"log_w must be (B, K) with K >= 1; got shape {log_w.shape}")
    return log_w
