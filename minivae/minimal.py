"""The VAE and the IWAE on one page, for chapter 0; names and shapes as in chapter 1."""

import numpy as np


def init(rng, x_mean, H=200, L=50, dtype=np.float32):
    """Name -> array: random weights, zero biases, the last at the mean image (D,)."""
    params, D = {}, len(x_mean)
    for layer, n_in, n_out in (
        ("q1.hidden1", D, H), ("q1.hidden2", H, H),  # the encoder, x -> mu, log_sigma
        ("q1.mu", H, L), ("q1.log_sigma", H, L),
        ("p1.hidden1", L, H), ("p1.hidden2", H, H), ("p1.logits", H, D),  # the decoder
    ):  # fmt: skip
        limit = np.sqrt(6 / (n_in + n_out))  # eq. 6.7
        params[f"{layer}.W"] = rng.uniform(-limit, limit, (n_in, n_out)).astype(dtype)
        params[f"{layer}.b"] = np.zeros(n_out, dtype)
    x_mean = np.clip(x_mean, 0.001, 0.999)  # a pixel never 1 would have logit -inf
    params["p1.logits.b"][:] = np.log(x_mean / (1 - x_mean))
    return params


def elbo(log_w):
    """The VAE's bound, the mean of the log-weights (B, K) -> value (B,), c (B, K)."""
    return log_w.mean(axis=1), np.full_like(log_w, 1 / log_w.shape[1])  # eqs. 3.4, 10.3


def iwae(log_w):
    """The IWAE's bound, the log of the mean weight: (B, K) -> value (B,), c (B, K)."""
    scaled = np.exp(log_w - log_w.max(axis=1, keepdims=True))  # at most 1, eq. 8.7
    value = log_w.max(axis=1) + np.log(scaled.mean(axis=1))  # eq. 9.1
    return value, scaled / scaled.sum(axis=1, keepdims=True)  # eqs. 8.8 and 10.2


def decode(params, rows):
    """A sample z in each row, (R, L) -> h3 and h4, both (R, H), and logits (R, D)."""
    h3 = np.tanh(rows @ params["p1.hidden1.W"] + params["p1.hidden1.b"])
    h4 = np.tanh(h3 @ params["p1.hidden2.W"] + params["p1.hidden2.b"])
    return h3, h4, h4 @ params["p1.logits.W"] + params["p1.logits.b"]


def linear_backward(params, grads, layer, x, dy):
    """Back through y = x @ W + b: stores dW and db, returns dx."""
    grads[f"{layer}.W"] = x.T @ dy  # eq. 6.3
    grads[f"{layer}.b"] = dy.sum(axis=0)  # eq. 6.4
    return dy @ params[f"{layer}.W"].T  # dx, eq. 6.2


def bound_and_grad(params, x, eps, bound):
    """x (B, D), eps (B, K, L) -> the bound, mean over the images, and its gradient."""
    # forward: x -> q(z|x) -> z -> p(x|z) -> log_w
    (B, D), (_, K, L) = x.shape, eps.shape
    h1 = np.tanh(x @ params["q1.hidden1.W"] + params["q1.hidden1.b"])  # eqs. 6.1, 6.5
    h2 = np.tanh(h1 @ params["q1.hidden2.W"] + params["q1.hidden2.b"])  # (B, H)
    mu = h2 @ params["q1.mu.W"] + params["q1.mu.b"]  # (B, L)
    log_sigma = h2 @ params["q1.log_sigma.W"] + params["q1.log_sigma.b"]  # (B, L)
    sigma = np.exp(log_sigma)[:, None]  # (B, 1, L)
    z = mu[:, None] + sigma * eps  # (B, K, L)  eq. 7.1
    rows = z.reshape(B * K, L)  # row r is sample r % K of image r // K
    h3, h4, logits = decode(params, rows)
    logits = logits.reshape(B, K, D)
    softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))  # eq. 8.5
    # log_w is around -100, and differences of 1 decide the weights: a float64 sum
    log_px = (x[:, None] * logits - softplus).sum(axis=2, dtype=np.float64)  # eq. 8.4
    log_w = log_px + ((eps**2 - z**2) / 2 + log_sigma[:, None]).sum(axis=2)  # eq. 8.3

    value, c = bound(log_w)  # (B,), (B, K): here, and only here, VAE and IWAE differ
    dlog_w = (c / B).astype(x.dtype)[:, :, None]  # (B, K, 1), float32 for the products

    # backward: the same in reverse, with the gradient of the mean bound
    grads = {}
    dlogits = dlog_w * (x[:, None] - np.exp(logits - softplus))  # (B, K, D)  eq. 8.6
    dh4 = linear_backward(params, grads, "p1.logits", h4, dlogits.reshape(B * K, D))
    dh3 = linear_backward(params, grads, "p1.hidden2", h3, dh4 * (1 - h4**2))  # eq. 6.6
    dz = linear_backward(params, grads, "p1.hidden1", rows, dh3 * (1 - h3**2))
    dz = dz.reshape(B, K, L) - dlog_w * z  # through p(x|z), and through the prior
    dmu = dz.sum(axis=1)  # (B, L)  eq. 7.6
    dlog_sigma = (dz * sigma * eps + dlog_w).sum(axis=1)  # (B, L)  eq. 7.7
    dh2 = linear_backward(params, grads, "q1.mu", h2, dmu)
    dh2 += linear_backward(params, grads, "q1.log_sigma", h2, dlog_sigma)
    dh1 = linear_backward(params, grads, "q1.hidden2", h1, dh2 * (1 - h2**2))
    linear_backward(params, grads, "q1.hidden1", x, dh1 * (1 - h1**2))
    return value.mean(), grads


def adam(params, grads, m, v, t, rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Step t = 1, 2, ... uphill; params, m and v change in place."""
    for name, g in grads.items():
        m[name] = beta1 * m[name] + (1 - beta1) * g  # eq. 11.1
        v[name] = beta2 * v[name] + (1 - beta2) * g**2  # eq. 11.2
        m_hat, v_hat = m[name] / (1 - beta1**t), v[name] / (1 - beta2**t)  # eq. 11.3
        params[name] += rate * m_hat / (np.sqrt(v_hat) + epsilon)  # eq. 11.4


def train(params, images, rng, bound, K, epochs, batch=100):
    """Raise the bound on grey images (n, 784), and print it and a digit each epoch."""
    m, v, t = dict.fromkeys(params, 0.0), dict.fromkeys(params, 0.0), 0
    for epoch in range(1, epochs + 1):
        total, order = 0.0, rng.permutation(len(images))
        for first in range(0, len(images), batch):
            grey = images[order[first : first + batch]]  # (B, D)
            x = (rng.random(grey.shape) < grey).astype(grey.dtype)  # drawn at each use
            eps = rng.standard_normal((len(x), K, len(params["q1.mu.b"])), x.dtype)
            value, grads = bound_and_grad(params, x, eps, bound)
            total, t = total + len(x) * value, t + 1
            adam(params, grads, m, v, t)
        print(f"epoch {epoch}: {total / len(images):.2f} nats")
        z = rng.standard_normal((1, len(params["q1.mu.b"])))  # from the prior
        probability = 1 / (1 + np.exp(-decode(params, z)[2]))  # (1, D)
        for line in probability.reshape(28, 28):
            print("".join(2 * " .:*#"[int(4.99 * p)] for p in line))


if __name__ == "__main__":
    from minivae.data import load

    rng, images = np.random.default_rng(0), load("mnist").train_images  # (60000, D)
    params = init(rng, images.mean(axis=0))
    train(params, images, rng, bound=iwae, K=5, epochs=20)
