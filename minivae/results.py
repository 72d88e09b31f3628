"""What an evaluation has measured, and its file."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, fields

import numpy as np

from .engine.digest import digest_of_images
from .engine.files import write_atomically
from .engine.npz import open_npz


@dataclass(eq=False)  # two are compared by `paired_difference`
class Evaluation:
    """What `evaluate` measured. Bounds in nats, means over images.

    Attributes
    ----------
    nll, nll_se : float
        -log p(x) estimated by ``k`` weights per image, and its standard error over
        images (None for a single one).
    bounds : dict
        k -> the k-sample bound, from the same weights: ``k`` weights make many groups
        of fewer.
    active_units : list of int
        One per stochastic layer.
    unit_variances : list of ndarray of shape (L,)
        Var over images of E_q[z|x], by unit.
    reconstruction, kl : float
        The ELBO's two terms: E_q log p(x|z), and KL(q || prior), in closed form where
        there is one layer.
    effective_sample_size : ndarray of shape (n,)
        1 / sum of squared normalised weights, per image; between 1 and ``k``.
    sorted_weights : ndarray of shape (k,)
        Normalised weights, largest first, mean over images.
    images, k : int
    log_p : ndarray of shape (n,)
        log p(x) of each image, estimated by ``k`` weights.
    x_digest, params_digest : str
        Of the images as they were evaluated, with their pixels, and of the model's
        parameters: they are equal for the same ones.
    """

    nll: float
    nll_se: float
    bounds: dict
    active_units: list
    unit_variances: list
    reconstruction: float
    kl: float
    effective_sample_size: np.ndarray
    sorted_weights: np.ndarray
    images: int
    k: int
    log_p: np.ndarray
    x_digest: str
    params_digest: str

    def __repr__(self):
        return f"{self.images:,} images, k = {self.k}\n{self.table()}"

    def table(self, nll_name="NLL"):
        """What was measured, a line each."""
        # one image has no variance over images
        units = " + ".join(map(str, self.active_units)) if self.images > 1 else "-"
        of_units = " + ".join(str(len(variances)) for variances in self.unit_variances)
        error = f", +- {self.nll_se:.3f} over images" if self.images > 1 else ""
        ess = self.effective_sample_size.mean()
        return "\n".join([
            f"{nll_name:<22} {self.nll:9.3f} nats{error}",
            *(f"bound, k = {k:<6}      {bound:9.3f} nats"
              for k, bound in self.bounds.items()),
            f"ELBO: reconstruction   {self.reconstruction:9.3f} nats",
            f"      less KL          {self.kl:9.3f} nats",
            f"active units           {units:>9} of {of_units}",
            f"effective sample size  {ess:9.2f} of {self.k}, mean over images",
        ])  # fmt: skip

    def summary(self):
        """The scalars, as a dict that JSON can hold."""
        return {
            "images": self.images,
            "k": self.k,
            "nll": self.nll,
            "nll_se": self.nll_se,
            "bounds": {str(k): value for k, value in self.bounds.items()},
            "active_units": self.active_units,
            "unit_variances": [variances.tolist() for variances in self.unit_variances],
            "reconstruction": self.reconstruction,
            "kl": self.kl,
            "effective_sample_size": float(self.effective_sample_size.mean()),
        }

    def paired_difference(self, other: Evaluation) -> tuple[float, float]:
        """This NLL less the other's, in nats, and its standard error over images.

        How hard an image is cancels in the difference: it is far sharper than either
        NLL (chapter 12).

        Raises
        ------
        ValueError
            If they are not of the same images with the same pixels, and of one k.
        """
        if self.k != other.k:
            raise ValueError(
                "two NLLs are compared by as many weights; these are with k ="
                f" {self.k:,} and {other.k:,}"
            )
        if self.x_digest != other.x_digest:
            raise ValueError(
                "two evaluations are compared on the same images and pixels; these are"
                f" of {self.images:,} and {other.images:,} images, digests"
                f" {self.x_digest[:8]} and {other.x_digest[:8]}"
            )
        difference = other.log_p - self.log_p
        error = standard_error(difference)
        return float(difference.mean()), np.nan if error is None else error

    def save(self, path: str | os.PathLike):
        """Write all of it as one .npz, an array for each attribute.

        ``bounds`` has a row (k, bound) for each k, and ``unit_variances/1``, ``/2`` and
        so on are those of the layers.
        """
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays["bounds"] = np.array([*self.bounds.items()], float)
        arrays["nll_se"] = np.nan if self.nll_se is None else self.nll_se
        for l, variances in enumerate(arrays.pop("unit_variances"), start=1):
            arrays[f"unit_variances/{l}"] = variances
        write_atomically(path, lambda file: np.savez(file, **arrays))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Evaluation:
        """What `save` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or it is damaged.
        """
        if os.fspath(path).endswith(".json"):  # as `minivae evaluate` names it
            path = f"{os.fspath(path).removesuffix('.json')}.npz"
        with open_npz(path, "an evaluation") as (header, read):

            def value(name, kinds, *shape):
                """The array of this name; a None in ``shape`` is any length."""
                found = header(name)
                if (
                    found is None
                    or found[0].kind not in kinds
                    or len(found[1]) != len(shape)
                    or any(m not in (n, None) for n, m in zip(found[1], shape))
                ):
                    got = "no such array" if found is None else f"{found[0]} {found[1]}"
                    raise ValueError(f"{path}: not an evaluation ({name} is {got})")
                array = read(name)
                return array if shape else array.item()

            n, k = value("images", "iu"), value("k", "iu")
            units, nll_se = value("active_units", "iu", None), value("nll_se", "f")
            return cls(
                nll=value("nll", "f"),
                nll_se=None if np.isnan(nll_se) else nll_se,
                bounds={int(k): float(b) for k, b in value("bounds", "f", None, 2)},
                active_units=units.tolist(),
                unit_variances=[
                    value(f"unit_variances/{l}", "f", None)
                    for l in range(1, len(units) + 1)
                ],
                reconstruction=value("reconstruction", "f"),
                kl=value("kl", "f"),
                effective_sample_size=value("effective_sample_size", "f", n),
                sorted_weights=value("sorted_weights", "f", k),
                images=n,
                k=k,
                log_p=value("log_p", "f", n),
                x_digest=value("x_digest", "U"),
                params_digest=value("params_digest", "U"),
            )


def kept_evaluation(path, x, params):
    """The `Evaluation` that was written to ``path``, if it is of these parameters and
    of the images ``x`` with their pixels. Else None, and where the file is damaged,
    too: it can be measured again.
    """
    if path.is_file():
        digests = digest_of_images(x), params.digest()
        with suppress(ValueError):
            kept = Evaluation.load(path)
            if (kept.x_digest, kept.params_digest) == digests:
                return kept
    return None


def standard_error(values):
    """Of their mean; None for a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
