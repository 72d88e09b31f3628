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


def latent_dims(params):
    """The latent units of each stochastic layer."""
    heads = [f"q{l}.mu.b" for l in range(1, 10)]
    return [len(params[head]) for head in heads if head in params]


def torch_peer(params, images, k, threads, mode, device="cpu"):
    """PyTorch, in ``mode`` "eager" or "compiled" by torch.compile; fused Adam.

    On a GPU ``indices`` are the device's, torch.compile replays CUDA graphs of forward
    and backward, and "one graph" is one of the whole compiled step. What is compiled is
    for one size: a second in the same process would make it general, and slower, so
    each has a process of its own, and dynamic=False says so once more.
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
            layers = {name[:-2] for name in params}  # without .W and .b
            self.layers = nn.ModuleDict(
                {n.replace(".", "_"): linear(n) for n in layers}
            )

        def hidden(self, name, h):
            for i in (1, 2):
                h = torch.tanh(self.layers[f"{name}_hidden{i}"](h))
            return h

        def gaussian(self, name, x):
            h = self.hidden(name, x)
            return self.layers[f"{name}_mu"](h), self.layers[f"{name}_log_sigma"](h)

        def log_weights(self, x, *eps):
            mu, log_sigma = (head[:, None] for head in self.gaussian("q1", x))
            z, log_q = [mu + log_sigma.exp() * eps[0]], 0.0  # (B, K, L)
            for l, noise in enumerate(eps, start=1):
                if l > 1:
                    mu, log_sigma = self.gaussian(f"q{l}", z[-1])
                    z.append(mu + log_sigma.exp() * noise)
                log_q = log_q - (noise**2 / 2 + log_sigma).sum(-1)
            logits = self.layers["p1_logits"](self.hidden("p1", z[0]))  # (B, K, D)
            log_p = -F.binary_cross_entropy_with_logits(
                logits, x[:, None].expand_as(logits), reduction="none"
            ).sum(-1)
            for l in range(1, len(z)):
                mu, log_sigma = self.gaussian(f"p{l + 1}", z[l])
                u = (z[l - 1] - mu) * (-log_sigma).exp()
                log_p = log_p - (u**2 / 2 + log_sigma).sum(-1)
            return log_p - (z[-1] ** 2 / 2).sum(-1) - log_q

        def forward(self, x, *eps):
            log_w = self.log_weights(x, *eps)
            return -(torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])).mean()

    model, compiled = IWAE().to(device), mode != "eager"
    latent = latent_dims(params)
    graphs = device == "cuda" and mode == "compiled"
    compiler = "reduce-overhead" if graphs else "default"
    loss_of, weights_of = model, model.log_weights
    if compiled:
        loss_of = torch.compile(model, mode=compiler, dynamic=False)
        weights_of = torch.compile(model.log_weights, dynamic=False)
    settings = {"lr": 1e-3, "fused": True, "capturable": mode == "one graph"}
    optimizer = torch.optim.Adam(model.parameters(), **settings)
    data = torch.from_numpy(images).to(device)

    def loss(x, eps):
        with torch.no_grad():
            inputs = (torch.from_numpy(array).to(device) for array in (x, *eps))
            return float(model(*inputs))

    def draw(images, n):
        return [torch.randn(images, n, L, device=device) for L in latent]

    def step(indices):
        x = torch.bernoulli(data[torch.as_tensor(indices)])
        optimizer.zero_grad(set_to_none=True)
        loss_of(x, *draw(len(indices), k)).backward()
        optimizer.step()

    if mode == "one graph":
        step = replayed(step)

    @torch.no_grad()
    def nll(x, k):
        x = torch.from_numpy(x).to(device)
        blocks = [weights_of(x, *draw(len(x), BLOCK)) for _ in range(k // BLOCK)]
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
    latent = latent_dims(params)

    def linear(p, name, h):
        return h @ p[f"{name}.W"] + p[f"{name}.b"]

    def hidden(p, name, h):
        for i in (1, 2):
            h = jnp.tanh(linear(p, f"{name}.hidden{i}", h))
        return h

    def gaussian(p, name, x):
        h = hidden(p, name, x)
        return linear(p, f"{name}.mu", h), linear(p, f"{name}.log_sigma", h)

    def weights_of(p, x, eps):
        mu, log_sigma = (head[:, None] for head in gaussian(p, "q1", x))
        z, log_q = [mu + jnp.exp(log_sigma) * eps[0]], 0.0  # (B, K, L)
        for l, noise in enumerate(eps, start=1):
            if l > 1:
                mu, log_sigma = gaussian(p, f"q{l}", z[-1])
                z.append(mu + jnp.exp(log_sigma) * noise)
            log_q = log_q - (noise**2 / 2 + log_sigma).sum(-1)
        logits = linear(p, "p1.logits", hidden(p, "p1", z[0]))
        log_p = (x[:, None] * logits - jax.nn.softplus(logits)).sum(-1)
        for l in range(1, len(z)):
            mu, log_sigma = gaussian(p, f"p{l + 1}", z[l])
            u = (z[l - 1] - mu) * jnp.exp(-log_sigma)
            log_p = log_p - (u**2 / 2 + log_sigma).sum(-1)
        return log_p - (z[-1] ** 2 / 2).sum(-1) - log_q

    def draw(key, images, n):
        keys = jax.random.split(key, len(latent))
        return [jax.random.normal(k, (images, n, L)) for k, L in zip(keys, latent)]

    def loss_of(p, x, eps):
        log_w = weights_of(p, x, eps)
        return -(jax.nn.logsumexp(log_w, axis=1) - jnp.log(eps[0].shape[1])).mean()

    def step_of(state, data, indices, key):
        p, m, v, t = state
        key, key_x, key_eps = jax.random.split(key, 3)
        grey = data[indices]
        x = jax.random.bernoulli(key_x, grey).astype(jnp.float32)
        eps = draw(key_eps, len(indices), k)
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
        return weights_of(p, x, draw(key_eps, len(x), BLOCK)), key

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


def missing_peers():
    """The packages that are not installed."""
    return [name for name in ("torch", "jax") if not find_spec(name)]


def peers(params, images, k, threads):
    """Name -> (loss, step, nll) of the peers that are here."""
    found, missing = {}, missing_peers()
    if "torch" not in missing:
        for name, mode in (("PyTorch", "eager"), ("torch.compile", "compiled")):
            found[name] = torch_peer(params, images, k, threads, mode)
    if "jax" not in missing:
        found["JAX"] = jax_peer(params, images, k, threads)
    return found
