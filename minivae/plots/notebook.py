"""What a notebook shows of an evaluation: its table and its pictures."""

import io
from base64 import b64encode
from html import escape

from ..results import Evaluation
from .curves import active_units, bound_against_k, normalised_weights


def as_html(evaluation):
    """The table, and below it each picture as a PNG within the page."""
    parts = [f"<pre>{escape(repr(evaluation))}</pre>"]
    for draw in (bound_against_k, active_units, normalised_weights):
        file = io.BytesIO()
        draw({"this model": evaluation}).savefig(file, format="png", dpi=80)
        data = b64encode(file.getvalue()).decode()
        name = draw.__name__.replace("_", " ")
        parts.append(f'<img alt="{name}" src="data:image/png;base64,{data}">')
    return "\n".join(parts)


# here and not in the class, which comes before the pictures
Evaluation._repr_html_ = as_html
