"""Log-sum-exp and softmax over the K log-weights of each image (eqs. 8.7 and 8.8).

    for each image:                               one row of log_w
        m      = the largest log-weight           so that exp never overflows
        s      = sum over k of exp(log_w[k] - m)  at least 1
        lse    = m + log s
        w_norm = exp(log_w[k] - m) / s

A row that is -inf throughout has lse = -inf and w_norm = 0: no sample explains the
image, so none gets a gradient.

log_w (B, K) float64 -> lse (B,), w_norm (B, K) float64
"""

from types import SimpleNamespace

import numpy as np

from . import jit


def softmax_numpy(log_w):
    m = log_w.max(axis=1, keepdims=True)  # (B, 1)
    m[m == -np.inf] = 0.0  # exp(-inf - 0) = 0, where exp(-inf + inf) would be NaN
    u = np.exp(log_w - m)  # (B, K)
    s = u.sum(axis=1, keepdims=True)  # (B, 1)
    with np.errstate(divide="ignore"):  # log 0 = -inf is what we want to say
        lse = m + np.log(s)  # eq. 8.7
    return lse[:, 0], u / np.where(s == 0.0, 1.0, s)  # eq. 8.8


@jit
def softmax_numba(log_w):
    B, K = log_w.shape
    lse = np.empty(B)
    w_norm = np.empty((B, K))
    for b in range(B):
        m = log_w[b, 0]
        for k in range(K):
            if log_w[b, k] > m:
                m = log_w[b, k]
        if m == -np.inf:
            m = 0.0
        s = 0.0
        for k in range(K):
            w_norm[b, k] = np.exp(log_w[b, k] - m)
            s += w_norm[b, k]
        lse[b] = m + np.log(s)
        for k in range(K):
            w_norm[b, k] = w_norm[b, k] / s if s != 0.0 else 0.0
    return lse, w_norm


VERSIONS = {
    "numpy": SimpleNamespace(forward=softmax_numpy),
    "numba": SimpleNamespace(forward=softmax_numba),
}
