"""The pictures of small models whose every number can be computed."""

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm
from style import BLUE, GREEN, GREY, PURPLE, RED, label, picture, point

import minivae as mv

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)  # of a standard normal
WEIGHTS = WEIGHTS / WEIGHTS.sum()
NATS = "nats"


def iwae_exact(log_w, q, K):
    """Eq. 9.5, where a log-weight has the values ``log_w`` with probabilities ``q``."""
    if K == 1:
        return q @ log_w
    u = np.linspace(-30, 30, 600)  # t = e^u, so that dt / t = du
    t, w = np.exp(u), np.exp(np.minimum(log_w, 300))
    phi = 1 + np.expm1(-np.outer(t / K, w)) @ q
    return (u[1] - u[0]) * (np.exp(-t) - np.maximum(phi, 0) ** K).sum()


@picture()
def elbo_gap(axes):
    """z ~ N(0, 1), x|z ~ N(z, 1), x = 1; q = N(mu, sigma^2) for two sigma."""
    x, mu = 1.0, np.linspace(-1.5, 2.5, 161)
    log_px = norm.logpdf(x, 0, np.sqrt(2))
    for sigma, color in ((np.sqrt(1 / 2), BLUE), (1.2, RED)):
        z = mu[:, None] + sigma * NODES
        log_w = norm.logpdf(z) + norm.logpdf(x, z, 1)
        log_w -= norm.logpdf(z, mu[:, None], sigma)
        elbo = log_w @ WEIGHTS  # eq. 3.1
        axes.plot(mu, elbo, color=color)
        if color == BLUE:
            axes.fill_between(mu, elbo, log_px, color=BLUE, alpha=0.15, linewidth=0)
    axes.axhline(log_px, color="black")
    axes.plot(x / 2, log_px, "o", color=BLUE, markersize=7)
    label(axes, -1.45, log_px + 0.08, r"$\log p(x)$", "black")
    label(axes, 2.0, -2.3, "the gap\nKL(q || posterior)", BLUE, ha="center")
    label(axes, 0.5, log_px + 0.13, "q is the posterior", BLUE, ha="center")
    label(axes, -0.72, -2.6, r"$\sigma^2 = 1/2$", BLUE, ha="right")
    label(axes, 0.5, -2.42, r"$\sigma = 1.2$", RED, ha="center")
    axes.set(xlabel=r"$\mu$ of q", ylabel=NATS, ylim=(-4.6, -0.85), xlim=(-1.5, 2.5))


@picture()
def aggregated_posterior(axes):
    """The three q(z|x) of chapter 4's block, their mean, and the prior."""
    z = np.linspace(-4, 4, 321)
    each = norm.pdf(z, [[-1.0], [0.5], [2.0]], [[0.5], [1.0], [0.3]])
    cloud = each.mean(axis=0)
    for q in each:
        axes.plot(z, q / 3, color=BLUE, linewidth=1, alpha=0.7)
    axes.plot(z, cloud, color=BLUE)
    axes.plot(z, norm.pdf(z), "--", color=RED)
    more = cloud < norm.pdf(z)
    for where, color in ((more, RED), (~more, BLUE)):
        axes.fill_between(
            z, cloud, norm.pdf(z), where=where, color=color, alpha=0.13, linewidth=0
        )
    label(axes, 2.2, 0.43, "all codes, $q(z)$", BLUE)
    label(axes, -1.9, 0.2, "the prior $p(z)$", RED, ha="right")
    point(axes, "each $q(z|x) / 3$", (2.26, 0.3), (2.6, 0.3), BLUE)
    note = "drawn from the prior,\nseldom seen in training"
    point(axes, note, (-0.12, 0.33), (-3.9, 0.42), GREY)
    axes.set(xlabel="$z$", ylabel="density", ylim=(0, None), xlim=(-4, 4))


@picture()
def bound_against_k(axes):
    """The model of chapter 9's block, q = the prior, x = 1."""
    x, K = 1.0, np.unique(np.geomspace(1, 200, 25).astype(int))
    z, h = np.linspace(-9, 9, 1801, retstep=True)
    q, w = h * norm.pdf(z), norm.pdf(x, z, 1)
    log_px = norm.logpdf(x, 0, np.sqrt(2))
    exact = [iwae_exact(np.log(w), q, k) for k in K]
    relative = (q @ w**2) / (q @ w) ** 2 - 1
    axes.axhline(log_px, color="black")
    axes.plot(K, log_px - relative / (2 * K), "--", color=RED)  # eq. 9.4
    axes.plot(K, exact, "o-", color=BLUE, markersize=4)
    label(axes, 1, log_px + 0.03, r"$\log p(x)$", "black")
    label(axes, 1.15, exact[0], "the ELBO, $K = 1$", BLUE, va="center")
    label(axes, 3.6, -1.65, r"the IWAE bound $\mathcal{L}_K$", BLUE)
    text = r"expansion: $\log p(x) - \mathrm{Var}[w]\,/\,2Kp(x)^2$"
    point(axes, text, (1.75, -1.625), (3.6, -1.47), RED)
    axes.set(xlabel="$K$", ylabel=NATS, xscale="log", ylim=(-2.0, -1.44))
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100, 200], "1 2 5 10 20 50 100 200".split())
    axes.minorticks_off()


@picture(columns=2, height=3.4)
def two_modes(panels):
    """z ~ N(0, 1), x|z ~ N(z^2, 0.3^2), x = 1.5, and the best Gaussian q for each K."""
    z, h = np.linspace(-6, 6, 1201, retstep=True)
    log_joint = norm.logpdf(z) + norm.logpdf(1.5, z**2, 0.3)
    log_px = np.log(h * np.exp(log_joint).sum())

    def bound(mu, sigma, K):
        log_q = norm.logpdf(z, mu, sigma)
        return iwae_exact(log_joint - log_q, h * np.exp(log_q), K)

    def best(K, start):
        found = minimize(
            lambda p: -bound(p[0], np.exp(p[1]), K), start, method="Powell"
        )
        return found.x[0], np.exp(found.x[1])

    narrow, wide = best(1, (-1.2, -2.0)), best(50, (0.0, 0.2))
    K = np.unique(np.geomspace(1, 200, 18).astype(int))
    left, right = panels
    left.fill_between(z[::2], np.exp(log_joint - log_px)[::2], color="0.8", linewidth=0)
    for q, color in ((narrow, BLUE), (wide, RED)):
        left.plot(z[::3], norm.pdf(z[::3], *q), color=color)
        right.plot(K, [bound(*q, k) for k in K], "o-", color=color, markersize=4)
    right.axhline(log_px, color="black")
    label(left, 1.2, 1.75, "posterior", GREY, ha="center")
    label(left, -1.0, 2.9, "best q for $K = 1$", BLUE)
    label(left, 2.0, 0.3, "best q\nfor $K = 50$", RED)
    left.set(xlabel="$z$", ylabel="density", xlim=(-3.2, 4.2), ylim=(0, 3.4))
    label(right, 1, log_px + 0.12, r"$\log p(x)$", "black")
    label(right, 7, -3.05, "one mode", BLUE)
    label(right, 5.2, -4.9, "both modes", RED)
    right.set(xlabel="$K$", ylabel=NATS, xscale="log", ylim=(-7, -1.4))
    right.set_xticks([1, 5, 20, 50, 200], ["1", "5", "20", "50", "200"])
    right.minorticks_off()


@picture()
def forward_and_reverse_kl(axes):
    """The Gaussian of least KL(q || p), and that of least KL(p || q)."""
    z, h = np.linspace(-8, 8, 3201, retstep=True)
    p = 0.7 * norm.pdf(z, -1, 0.5) + 0.3 * norm.pdf(z, 1.5, 0.5)

    def reverse(parameters):
        mu, log_sigma = parameters
        log_q = norm.logpdf(z, mu, np.exp(log_sigma))
        return h * (np.exp(log_q) * (log_q - np.log(p))).sum()

    mu, log_sigma = minimize(reverse, (-1.0, -0.7), method="Powell").x
    mean = h * (z * p).sum()
    sigma = np.sqrt(h * ((z - mean) ** 2 * p).sum())
    axes.fill_between(z[::10], p[::10], color="0.8", linewidth=0)
    axes.plot(z[::10], norm.pdf(z[::10], mu, np.exp(log_sigma)), color=BLUE)
    axes.plot(z[::10], norm.pdf(z[::10], mean, sigma), color=RED)
    label(axes, 2.15, 0.2, "posterior p", GREY)
    text = "least KL(q || p), the ELBO's:\none mode, the other missed"
    label(axes, -0.45, 0.6, text, BLUE)
    text = "least KL(p || q), wake-sleep's:\nall of p, and what lies between"
    label(axes, -2.2, 0.16, text, RED, ha="right")
    axes.set(xlabel="$z$", ylabel="density", xlim=(-7.2, 4), ylim=(0, None))


@picture()
def concentration_of_weights(axes):
    """Log-weights from N(0, s^2): how many samples count, eq. 12.4."""
    spread, rng = np.linspace(0, 5, 26), np.random.default_rng(0)
    for K, color in ((5, GREEN), (50, BLUE), (500, PURPLE), (5000, RED)):
        noise = rng.standard_normal((400, K))
        ess = []
        for s in spread:
            _, w_norm, _ = mv.BOUNDS["iwae"](s * noise)
            ess.append((1 / (w_norm**2).sum(axis=1)).mean())
        axes.plot(spread, ess, color=color)
        label(axes, -0.08, K, f"$K = {K:,}$", color, ha="right", va="center")
    axes.axhline(1, color=GREY, linewidth=1)
    text = "one sample has all the weight"
    label(axes, 0, 0.9, text, GREY, va="top", fontsize=10)
    axes.set(xlabel="spread of the log-weights (standard deviation, nats)")
    axes.set(ylabel="effective sample size", yscale="log")
    axes.set(xlim=(-0.9, 5), ylim=(0.5, 7000))
    axes.set_xticks(range(6))
