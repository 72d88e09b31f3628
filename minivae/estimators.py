"""Every estimator: a bound and K log-weights -> three rows of coefficients.

The backward pass knows nothing of a bound but these rows (eq. 10.5):

    d theta = sum_k  theta[k] * d log p(x, z_k) / d theta
    d phi   = sum_k  path[k] * (d log w_k / d z_k) (d z_k / d phi)
                     + score[k] * d log q(z_k|x) / d phi  at fixed z_k

theta, path and score are (B, K) float64 (eq. 10.5). To add an estimator, write the
function and name it in `ESTIMATORS`.
"""


def reparam(bound, log_w):
    """The plain gradient at fixed eps: exactly the derivative of the bound (Kingma &
    Welling 2013; Burda et al. 2016).

    Parameters
    ----------
    bound : callable
        log_w -> value, c, dc; an entry of `minivae.BOUNDS` with its options filled in.
    log_w : ndarray of shape (B, K)
        Log-weights, in nats.

    Returns
    -------
    value : ndarray of shape (B,)
        The bound.
    theta, path, score : ndarray of shape (B, K)
    """
    value, c, _ = bound(log_w)
    return value, c, c, -c  # eq. 10.6


ESTIMATORS = {"reparam": reparam}
