// The three figures of try.html. window.MINIVAE holds the numbers, computed by minivae at build.
"use strict";

(() => {
  const WIDTH = 640, HEIGHT = 260, LEFT = 52, RIGHT = 16, TOP = 14, BOTTOM = 36;
  const fixed = (value, digits = 2) => value.toFixed(digits).replace("-", "\u2212");

  // A linear or logarithmic scale from [low, high] to [from, to].
  const scale = (low, high, from, to, of = (v) => v) => (value) =>
    from + ((of(value) - of(low)) / (of(high) - of(low))) * (to - from);

  const line = (xs, ys, x, y, name) =>
    `<polyline class="${name}" points="${xs.map((v, i) => `${x(v)},${y(ys[i])}`).join(" ")}"/>`;

  function axes(x, y, xTicks, yTicks, xName, yName) {
    const ticks = [
      ...xTicks.map((t) => `<text x="${x(t)}" y="${HEIGHT - BOTTOM + 16}" class="tick middle">${t}</text>`),
      ...yTicks.map((t) => `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(t)}" y2="${y(t)}" class="grid"/>
        <text x="${LEFT - 8}" y="${y(t) + 4}" class="tick end">${fixed(t, 1)}</text>`),
    ];
    return `${ticks.join("")}
      <text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 4}" class="tick middle">${xName}</text>
      <text transform="translate(12 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" class="tick middle">${yName}</text>`;
  }

  // Fill a figure with a drawing, sliders and a sentence; draw(values) -> [svg, sentence].
  function figure(id, sliders, draw) {
    const host = document.getElementById(id);
    if (!host) return null;
    const inputs = sliders.map(({ name, values, start }, i) => `<label>${name}
      <input type="range" min="0" max="${values.length - 1}" value="${start}" data-slider="${i}">
      <span class="value"></span></label>`);
    host.innerHTML = `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-labelledby="${id}-text"></svg>
      <div class="sliders">${inputs.join("")}</div><p id="${id}-text" class="sentence" aria-live="polite"></p>`;
    const ranges = [...host.querySelectorAll("input")];
    const update = () => {
      const at = ranges.map((range) => Number(range.value));
      ranges.forEach((range, i) => {
        const shown = sliders[i].values[at[i]];
        range.nextElementSibling.textContent = fixed(shown, Number.isInteger(shown) && sliders[i].whole ? 0 : 2);
        range.setAttribute("aria-valuetext", `${sliders[i].name} ${range.nextElementSibling.textContent}`);
      });
      const [svg, sentence] = draw(at);
      host.querySelector("svg").innerHTML = svg;
      host.querySelector(".sentence").textContent = sentence;
    };
    ranges.forEach((range) => range.addEventListener("input", update));
    update();
    return { host, set: (at) => { ranges.forEach((range, i) => { range.value = at[i]; }); update(); } };
  }

  function againstK({ k, bound, expansion, truth }) {
    const x = scale(k[0], k[k.length - 1], LEFT, WIDTH - RIGHT, Math.log);
    const y = scale(-1.95, -1.47, HEIGHT - BOTTOM, TOP);
    const frame = axes(x, y, [1, 2, 5, 10, 20, 50, 100], [-1.9, -1.8, -1.7, -1.6, -1.5], "K", "nats");
    figure("figure-k", [{ name: "K", values: k, start: 0, whole: true }], ([i]) => [
      `${frame}<line class="truth" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(truth)}" y2="${y(truth)}"/>
       <text class="note" x="${LEFT + 6}" y="${y(truth) - 6}">log p(x)</text>
       ${line(k, expansion, x, y, "dashed")}${line(k, bound, x, y, "first")}
       <line class="gap" x1="${x(k[i])}" x2="${x(k[i])}" y1="${y(bound[i])}" y2="${y(truth)}"/>
       <circle class="first" cx="${x(k[i])}" cy="${y(bound[i])}" r="5"/>`,
      `With K = ${k[i]} the bound is ${fixed(bound[i], 3)} nats, ${fixed(truth - bound[i], 3)} below log p(x) = ` +
      `${fixed(truth, 3)}; the expansion says ${fixed(truth - expansion[i], 3)} below.`,
    ]);
  }

  function againstSigma({ sigma, k, bound, truth, best }) {
    const x = scale(0, 2, LEFT, WIDTH - RIGHT), y = scale(-4, -1.3, HEIGHT - BOTTOM, TOP);
    const frame = axes(x, y, [0, 0.5, 1, 1.5, 2], [-4, -3.5, -3, -2.5, -2, -1.5], "\u03c3 of q", "nats");
    const names = ["first", "second", "third"], labels = ["ELBO", "K = 5", "K = 50"];
    // a curve leaves the frame where it is below it
    const within = (ys) => ys.map((v) => Math.max(v, -4));
    figure("figure-sigma", [{ name: "\u03c3", values: sigma, start: sigma.length - 1 }], ([i]) => [
      `${frame}<line class="truth" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(truth)}" y2="${y(truth)}"/>
       <text class="note" x="${x(best)}" y="${y(truth) - 7}" text-anchor="middle">log p(x)</text>
       ${bound.map((ys, n) => line(sigma, within(ys), x, y, names[n])).join("")}
       ${bound.map((ys, n) => `<circle class="${names[n]}" cx="${x(sigma[i])}" cy="${y(within(ys)[i])}" r="5"/>`).join("")}
       ${labels.map((label, n) => `<text class="label ${names[n]}" x="${LEFT + 70 + n * 70}" y="${HEIGHT - BOTTOM - 10}">${label}</text>`).join("")}`,
      `At \u03c3 = ${fixed(sigma[i])}: ${k.map((size, n) =>
        `${size === 1 ? "ELBO" : `K = ${size}`} ${fixed(bound[n][i])}`).join(", ")}; log p(x) = ${fixed(truth)} nats.`,
    ]);
  }

  function twoModes({ mean, sigma, k, bound, z, posterior, truth }) {
    const means = [...mean.slice(1).map((m) => -m).reverse(), ...mean];
    const x = scale(-3, 3, LEFT, WIDTH - RIGHT), y = scale(0, 2, HEIGHT - BOTTOM, TOP);
    const frame = axes(x, y, [-3, -2, -1, 0, 1, 2, 3], [0, 0.5, 1, 1.5, 2], "z", "density");
    const at = (n, i, j) => bound[n][mean.indexOf(Math.abs(means[i]))][j];
    const best = (n) => {
      let found = [0, 0];
      means.forEach((_, i) => sigma.forEach((_, j) => { if (at(n, i, j) > at(n, ...found)) found = [i, j]; }));
      return found;
    };
    const shown = figure("figure-modes", [
      { name: "K", values: k, start: 0, whole: true },
      { name: "mean", values: means, start: mean.length - 1 },
      { name: "\u03c3", values: sigma, start: sigma.length >> 1 },
    ], ([n, i, j]) => {
      const q = z.map((v) => Math.exp(-0.5 * ((v - means[i]) / sigma[j]) ** 2) / (sigma[j] * Math.sqrt(2 * Math.PI)));
      const [bi, bj] = best(n);
      return [
        `${frame}${line(z, posterior, x, y, "truth solid")}${line(z, q.map((v) => Math.min(v, 2)), x, y, "first")}
         <text class="label truth" x="${WIDTH - RIGHT - 150}" y="${TOP + 16}">posterior p(z | x)</text>
         <text class="label first" x="${WIDTH - RIGHT - 150}" y="${TOP + 34}">q</text>`,
        `With K = ${k[n]}, this q (mean ${fixed(means[i])}, \u03c3 ${fixed(sigma[j])}) has a bound of ` +
        `${fixed(at(n, i, j))} nats. The best for this K has \u00b1${fixed(Math.abs(means[bi]), 1)} and ` +
        `${fixed(sigma[bj])}: ${fixed(at(n, bi, bj))}. log p(x) = ${fixed(truth)}.`,
      ];
    });
    if (!shown) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Go to the best q for this K";
    button.addEventListener("click", () => {
      const n = Number(shown.host.querySelector("input").value);
      shown.set([n, ...best(n)]);
    });
    shown.host.querySelector(".sliders").append(button);
  }

  document.addEventListener("DOMContentLoaded", () => {
    if (!document.querySelector(".figure")) return;
    againstK(window.MINIVAE.k);
    againstSigma(window.MINIVAE.sigma);
    twoModes(window.MINIVAE.modes);
  });
})();
