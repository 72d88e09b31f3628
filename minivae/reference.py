"""Numbers to check another implementation against: two small models in float64, their
log-weights, and every bound and every gradient of them.
"""

from pathlib import Path

import numpy as np

from .engine.files import write_atomically
from .engine.objective import resolve
from .engine.registry import BOUNDS, CLOSED_FORMS, ESTIMATORS
from .gradcheck import small_model
from .gradient import bound_and_grad

MODELS = {"one": ((3,), ((6, 5),)), "two": ((4, 3), ((6, 5), (4, 5)))}
K = 4
README = """\
Reference values of minivae, all in float64; logarithms are natural.

There are two models: "one" has one stochastic layer, "two" has two. The names of the
arrays, with M for "one" or "two":

M/params/q1.hidden1.W
    A parameter, by its name. Networks: q1 and q2 are the encoder's, p1 and p2 the
    decoder's, and q1 is nearest to x. Layers: hidden1, hidden2, ..., each followed by
    tanh; then the heads mu and log_sigma, or logits for p1. A layer is x W + b, with W
    of shape (in, out).
M/x
    Images, zeros and ones, (B, D).
M/eps/1, M/eps/2
    Standard normal noise of each stochastic layer, (B, K, L): z_1 = mu + exp(log_sigma)
    eps_1 by q1 of x, then z_2 by q2 of z_1 and eps_2.
M/log_w
    log p(x, z) - log q(z|x), (B, K).
M/bounds/NAME/value, c, dc
    A bound of the log-weights, (B,); its derivative c by each log-weight, (B, K); and
    the derivative of c[k] by log-weight k, (B, K).
M/gradients/NAME/ESTIMATOR/q1.hidden1.W
    By each parameter, uphill, the gradient of the bound's mean over the B images, as
    the estimator gives it for this eps. "elbo_kl" is the ELBO with its KL term in
    closed form, for one layer.

Options, of the bounds: {bounds}.
Of the estimators: {estimators}.
"""


def reference_arrays():
    """All of it, name -> array; "README" is a text that explains the names."""
    arrays = {"README": README.format(**options_in_words())}
    for model_name, (latent_dims, hidden_dims) in MODELS.items():
        model, x, eps = small_model("numpy", latent_dims, hidden_dims, k=K)
        found = {"x": x, "log_w": model.log_weights(x, eps)}
        found |= {f"eps/{l}": e for l, e in enumerate(eps, start=1)}
        found |= {f"params/{name}": array for name, array in model.params.items()}
        for name, bound in BOUNDS.items():
            parts = zip(("value", "c", "dc"), bound(found["log_w"], **bound.examples()))
            found |= {f"bounds/{name}/{part}": a for part, a in parts if a is not None}
        for bound, estimator, options in objectives(model):
            _, grads = bound_and_grad(model, x, eps, bound, estimator, **options)
            for name, array in grads.items():
                found[f"gradients/{bound}/{estimator}/{name}"] = array
        arrays |= {f"{model_name}/{name}": array for name, array in found.items()}
    return arrays


def objectives(model):
    """(bound, estimator, options) of all that go together, for this model."""
    for name in [*BOUNDS, *CLOSED_FORMS]:
        bound = BOUNDS[CLOSED_FORMS[name].of if name in CLOSED_FORMS else name]
        for estimator in ESTIMATORS.values():
            options = bound.examples() | estimator.examples()
            try:
                resolve(model, K, name, estimator.name, options)
            except ValueError:  # they do not go together
                continue
            yield name, estimator.name, options


def options_in_words():
    """The options that the bounds and the estimators are given."""
    return {
        kind: ", ".join(
            f"{entry.name} has {name} = {option.example}"
            for entry in registry.values()
            for name, option in entry.options.items()
        )
        for kind, registry in (("bounds", BOUNDS), ("estimators", ESTIMATORS))
    }


def write_reference(path):
    """`reference_arrays` as one .npz; how many arrays there are."""
    arrays = reference_arrays()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))
    return len(arrays)
