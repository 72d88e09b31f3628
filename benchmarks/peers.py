"""The same training step in PyTorch and in JAX, written as their users would write it.

A peer is a function of the same parameters (name -> array, as in `VAE.params`) and the
grey training images. It returns three functions:

    loss(x, eps) -> the negative bound on given pixels and noise, to compare
    step(indices) -> None: binarize these images, draw eps, differentiate, Adam
    nll(x, k) -> the mean of -log p(x), k weights an image, `BLOCK` of them at a time

An image is encoded once, not once for each of its K samples; everything is float32.
"""

import math
from importlib.util import find_spec

import numpy as np

BLOCK = 50


def torch_peer(params, images, k, threads, mode, device="cpu"):
    """PyTorch, in ``mode`` "eager" or "compiled" by torch.compile; fused Adam.

    On a GPU ``indices`` are the device's, torch.compile replays CUDA graphs of forward
    and backward, and "one graph" is one of the whole compiled step.
    """
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)

    def linear(name):
        W, b = params[f"{name}.W"], params[f"{name}.b"]
        layer = nn.Linear(*W.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(W.T.copy()))
            layer.bias.copy_(torch.from_numpy(b.copy()))
        return layer

    class IWAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(
                linear("q1.hidden1"), nn.Tanh(), linear("q1.hidden2"), nn.Tanh()
            )
            self.mu, self.log_sigma = linear("q1.mu"), linear("q1.log_sigma")
            self.decoder = nn.Sequential(
                linear("p1.hidden1"),
                nn.Tanh(),
                linear("p1.hidden2"),
                nn.Tanh(),
                linear("p1.logits"),
            )

        def log_weights(self, x, eps):
            h = self.encoder(x)
            mu, log_sigma = self.mu(h)[:, None], self.log_sigma(h)[:, None]
            z = mu + log_sigma.exp() * eps  # (B, K, L)
            logits = self.decoder(z)  # (B, K, D)
            log_px = -F.binary_cross_entropy_with_logits(
                logits, x[:, None].expand_as(logits), reduction="none"
            ).sum(-1)
            return log_px + (eps**2 / 2 - z**2 / 2 + log_sigma).sum(-1)

        def forward(self, x, eps):
            log_w = self.log_weights(x, eps)
            return -(torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])).mean()

    model, compiled = IWAE().to(device), mode != "eager"
    latent = params["q1.mu.b"].shape[0]
    graphs = device == "cuda" and mode == "compiled"
    compiler = "reduce-overhead" if graphs else "default"
    loss_of = torch.compile(model, mode=compiler) if compiled else model
    weights_of = torch.compile(model.log_weights) if compiled else model.log_weights
    settings = {"lr": 1e-3, "fused": True, "capturable": mode == "one graph"}
    optimizer = torch.optim.Adam(model.parameters(), **settings)
    data = torch.from_numpy(images).to(device)

    def loss(x, eps):
        with torch.no_grad():
            inputs = (torch.from_numpy(array).to(device) for array in (x, eps))
            return float(model(*inputs))

    def step(indices):
        x = torch.bernoulli(data[torch.as_tensor(indices)])
        eps = torch.randn(len(indices), k, latent, device=device)
        optimizer.zero_grad(set_to_none=True)
        loss_of(x, eps).backward()
        optimizer.step()

    if mode == "one graph":
        step = replayed(step)

    @torch.no_grad()
    def nll(x, k):
        x = torch.from_numpy(x).to(device)
        shape = len(x), BLOCK, latent
        blocks = [
            weights_of(x, torch.randn(shape, device=device)) for _ in range(k // BLOCK)
        ]
        log_w = torch.cat(blocks, 1).double()
        return float(-(torch.logsumexp(log_w, 1) - np.log(k)).mean())

    return loss, step, nll


def replayed(step):
    """``step(indices)`` recorded at its first call, as PyTorch's notes on CUDA graphs
    have it: warm on a stream of its own, then recorded.
    """
    import torch

    graph, there = torch.cuda.CUDAGraph(), []

    def call(indices):
        if not there:
            there.append(indices.clone())
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    step(there[0])
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph):
                step(there[0])
        there[0].copy_(indices)
        graph.replay()

    return call


def jax_peer(params, images, k, threads):
    """JAX, the whole step in one jit; it takes as many threads as there are cores."""
    import jax
    import jax.numpy as jnp

    names = sorted(params)
    latent = params["q1.mu.b"].shape[0]

    def hidden(p, name, h):
        for i in (1, 2):
            layer = f"{name}.hidden{i}"
            h = jnp.tanh(h @ p[f"{layer}.W"] + p[f"{layer}.b"])
        return h

    def weights_of(p, x, eps):
        h = hidden(p, "q1", x)
        mu = (h @ p["q1.mu.W"] + p["q1.mu.b"])[:, None]
        log_sigma = (h @ p["q1.log_sigma.W"] + p["q1.log_sigma.b"])[:, None]
        z = mu + jnp.exp(log_sigma) * eps  # (B, K, L)
        logits = hidden(p, "p1", z) @ p["p1.logits.W"] + p["p1.logits.b"]
        log_px = (x[:, None] * logits - jax.nn.softplus(logits)).sum(-1)
        return log_px + (eps**2 / 2 - z**2 / 2 + log_sigma).sum(-1)

    def loss_of(p, x, eps):
        log_w = weights_of(p, x, eps)
        return -(jax.nn.logsumexp(log_w, axis=1) - jnp.log(eps.shape[1])).mean()

    def step_of(state, data, indices, key):
        p, m, v, t = state
        key, key_x, key_eps = jax.random.split(key, 3)
        grey = data[indices]
        x = jax.random.bernoulli(key_x, grey).astype(jnp.float32)
        eps = jax.random.normal(key_eps, (len(indices), k, latent))
        g = jax.grad(loss_of)(p, x, eps)
        t = t + 1
        tree = jax.tree.map
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
        p = tree(
            lambda p, m, v: (
                p - 1e-3 * m / (1 - 0.9**t) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
            ),
            p,
            m,
            v,
        )
        return (p, m, v, t), key

    @jax.jit
    def draw_weights(p, x, key):
        key, key_eps = jax.random.split(key)
        eps = jax.random.normal(key_eps, (len(x), BLOCK, latent))
        return weights_of(p, x, eps), key

    jitted_loss, jitted_step = jax.jit(loss_of), jax.jit(step_of, donate_argnums=0)
    start = {name: jnp.array(params[name]) for name in names}
    zeros = {name: jnp.zeros_like(array) for name, array in start.items()}
    moments = zeros, {name: jnp.zeros_like(array) for name, array in start.items()}
    now = {"state": (start, *moments, jnp.zeros(())), "key": jax.random.PRNGKey(0)}
    data = jnp.asarray(images)

    def loss(x, eps):
        return float(jitted_loss({n: params[n] for n in names}, x, eps))

    def step(indices):
        now["state"], now["key"] = jitted_step(now["state"], data, indices, now["key"])
        jax.block_until_ready(now["state"])

    def nll(x, k):
        p, key, blocks = {n: jnp.asarray(params[n]) for n in names}, now["key"], []
        for _ in range(k // BLOCK):
            log_w, key = draw_weights(p, x, key)
            blocks.append(log_w)
        log_w = np.concatenate([np.asarray(b, np.float64) for b in blocks], axis=1)
        return float(-(np.logaddexp.reduce(log_w, axis=1) - np.log(k)).mean())

    return loss, step, nll


def peers(params, images, k, threads):
    """Name -> (loss, step, nll) of the peers that are here; and what is missing."""
    found, missing = {}, [name for name in ("torch", "jax") if not find_spec(name)]
    if "torch" not in missing:
        for name, mode in (("PyTorch", "eager"), ("torch.compile", "compiled")):
            found[name] = torch_peer(params, images, k, threads, mode)
    if "jax" not in missing:
        found["JAX"] = jax_peer(params, images, k, threads)
    return found, missing
