"""Every kernel once more, in float64, from SciPy, or from the formula as a paper has
it: what all versions are compared with. It shares no code and no shortcut with them.
"""

from math import cos, log, pi, sin, sqrt

import numpy as np
from scipy.special import expit, log_expit
from scipy.stats import norm


def matmul(a, b):
    return np.einsum("mn,no->mo", a, b)


def tanh(a, b):
    return 2 * expit(2 * (a + b)) - 1


def tanh_backward(dh, h):
    return dh - dh * h**2


def bernoulli(a, b, x):
    """log Bernoulli(x; p) with p = expit(logits)."""
    logits, x = a + b, x[:, None]
    return (x * log_expit(logits) + (1 - x) * log_expit(-logits)).sum(axis=2)


def bernoulli_backward(a, b, x):
    return x[:, None] - expit(a + b)


def reparameterize(mu, log_sigma, eps):
    samples = [mu + np.exp(log_sigma) * eps[:, k] for k in range(eps.shape[1])]
    return np.stack(samples, axis=1)


def reparameterize_backward(dz, eps, log_sigma, path, score):
    """By the derivatives of log q(z) in z, and in mu and log_sigma at fixed z."""
    dmu, dlog_sigma = np.zeros((2, *log_sigma.shape))
    for k in range(eps.shape[1]):
        e, sigma, p, s = eps[:, k], np.exp(log_sigma), path[:, [k]], score[:, [k]]
        through_z = dz[:, k] + p * e / sigma  # -d log q / dz is e / sigma
        dmu += through_z + s * e / sigma
        dlog_sigma += through_z * sigma * e + s * (e**2 - 1)
    return dmu, dlog_sigma


def log_weight(log_px, z, eps, log_sigma):
    """log p(x|z) + log p(z) - log q(z|x)."""
    log_q = norm.logpdf(eps) - log_sigma[:, None]
    return log_px + (norm.logpdf(z) - log_q).sum(axis=2)


def coefficients(theta, path, score, step, least):
    """keep, coef, down, path, score: sample by sample."""
    keep = np.empty(theta.shape, bool)
    coef, down, path_out, score_out = np.zeros((4, *theta.shape))
    for b, k in np.ndindex(*theta.shape):
        t, p, s = theta[b, k], path[b, k], score[b, k]
        by_theta = abs(t) > step * np.max(np.abs(theta[b]))
        keep[b, k] = by_theta or abs(p) > step * np.max(np.abs(path[b]))
        if keep[b, k]:
            coef[b, k], down[b, k] = (0 if abs(c) < least else c for c in (t, p))
        for out, number in ((path_out, p), (score_out, s)):
            out[b, k] = 0 if abs(number) < least else number
    return keep, coef, down, path_out, score_out


def adam(p, g, m, v, t, learning_rate, beta1, beta2, epsilon):
    """p, m and v after algorithm 1 of Kingma and Ba (2015), uphill."""
    rows = []
    for p_, g_, m_, v_ in zip(*(array.tolist() for array in (p, g, m, v))):
        m_, v_ = beta1 * m_ + (1 - beta1) * g_, beta2 * v_ + (1 - beta2) * g_ * g_
        m_hat, v_hat = m_ / (1 - beta1**t), v_ / (1 - beta2**t)
        rows.append((p_ + learning_rate * m_hat / (sqrt(v_hat) + epsilon), m_, v_))
    return np.array(rows).T


def average(average, p, decay):
    return average - (1 - decay) * (average - p)


def philox(key, counter):
    """Salmon et al. (2011), Philox 4x32-10, in Python's whole numbers."""
    k, c = list(key), list(counter)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def noise(key, first, B, n, step, stream):
    """Uniform and normal numbers, (B, n) each: word w of block j in column w * blocks
    + j.
    """
    blocks = -(-n // 4)
    uniform, normal = np.zeros((2, B, 4 * blocks))
    for b, j in np.ndindex(B, blocks):
        words = philox(key, (j, first + b, step, stream))
        for w, word in enumerate(words):
            uniform[b, w * blocks + j] = (word >> 8) / 2**24
            r = sqrt(-2 * log((words[w & ~1] + 0.5) / 2**32))
            angle = 2 * pi * words[w | 1] / 2**32
            normal[b, w * blocks + j] = r * (sin(angle) if w % 2 else cos(angle))
    return uniform[:, :n], normal[:, :n]
