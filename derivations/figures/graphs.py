"""The pictures of which variable depends on which."""

from itertools import pairwise

from matplotlib.patches import Circle, FancyBboxPatch, Rectangle
from style import BLUE, GREY, RED, picture

OUTLINE = {"linewidth": 1.3, "zorder": 2}


def canvas(axes, width, height):
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")


def circle(axes, x, y, text, fill="white"):
    """A variable that is drawn at random."""
    axes.add_patch(Circle((x, y), 0.42, facecolor=fill, edgecolor="black", **OUTLINE))
    axes.text(x, y, text, ha="center", va="center", zorder=3)


def box(axes, x, y, text, width=0.84):
    """A variable that is computed."""
    corner, style = (x - width / 2, y - 0.16), "round,pad=0.2"
    axes.add_patch(
        FancyBboxPatch(corner, width, 0.32, style, facecolor="white", **OUTLINE)
    )
    axes.text(x, y, text, ha="center", va="center", zorder=3)


def arrow(axes, start, end, color="black", **how):
    line = {"arrowstyle": "-|>", "color": color, "linewidth": 1.6, "mutation_scale": 14}
    axes.annotate("", end, start, arrowprops=line | how, zorder=1)


@picture(height=2.5)
def graphical_model(axes):
    """Eq. 1.1 with solid arrows, eq. 1.2 with dashed ones."""
    canvas(axes, 10.4, 4)
    circle(axes, 3.4, 2, "$z$")
    circle(axes, 7, 2, "$x$", fill="0.82")
    for x, text, color in ((0.5, r"$\varphi$", BLUE), (9.9, r"$\theta$", "black")):
        axes.text(x, 2, text, color=color, ha="center", va="center", fontsize=14)
    arrow(axes, (3.82, 2), (6.58, 2))
    arrow(axes, (9.6, 2), (7.42, 2))
    back = {"linestyle": "--", "color": BLUE}
    arrow(axes, (6.75, 1.66), (3.65, 1.66), connectionstyle="arc3,rad=-0.3", **back)
    arrow(axes, (0.8, 2), (2.98, 2), **back)
    axes.text(5.2, 2.3, r"decoder $p_\theta(x\,|\,z)$", ha="center")
    text = r"encoder $q_\varphi(z\,|\,x)$"
    axes.text(5.2, 0.72, text, ha="center", color=BLUE)
    axes.text(3.4, 2.75, "prior $p(z)$", ha="center")
    axes.text(7, 2.75, "image, seen", ha="center")
    axes.add_patch(Rectangle((2, 0.25), 6.5, 3.3, fill=False, linewidth=1.3))
    axes.text(8.35, 0.4, "each of $N$ images", ha="right", fontsize=10, color=GREY)


@picture(columns=2, height=3.7)
def reparameterised_path(panels):
    """Eq. 7.1: on the left the sample is drawn, on the right it is computed."""
    for axes, flowing in zip(panels, (False, True)):
        canvas(axes, 5.6, 6.4)
        axes.set_title(
            r"$z = \mu + \sigma\varepsilon$ : the gradient flows"
            if flowing
            else r"$z \sim \mathcal{N}(\mu, \sigma^2)$ : it is blocked"
        )
        x, heights = 2.2, (0.6, 2.2, 3.8, 5.4)
        box(axes, x, heights[0], r"$\varphi$, $x$")
        box(axes, x, heights[1], r"$\mu$, $\sigma$")
        if flowing:
            box(axes, x, heights[2], r"$\mu + \sigma\varepsilon$", width=1.2)
            circle(axes, 4.7, heights[2], r"$\varepsilon$")
            arrow(axes, (4.25, heights[2]), (3.05, heights[2]))
            axes.text(4.7, 4.5, r"$\mathcal{N}(0, 1)$", ha="center")
        else:
            circle(axes, x, heights[2], "$z$")
        box(axes, x, heights[3], "$f(z)$", width=1.0)
        for low, high in pairwise(heights):
            arrow(axes, (x - 0.2, low + 0.43), (x - 0.2, high - 0.43))
            if flowing or high == heights[3]:
                arrow(axes, (x + 0.25, high - 0.43), (x + 0.25, low + 0.43), RED)
        if flowing:
            texts = (r"$\partial f/\partial z$", r"$1,\ \varepsilon$", "chain rule")
        else:
            texts = (r"$\partial f/\partial z$", "no derivative", "")
            axes.plot(x + 0.25, 3, "x", color=RED, markersize=11, mew=2.5)
        for y, text in zip((4.6, 3.0, 1.4), texts):
            axes.text(x + 0.6, y, text, color=RED, va="center")
