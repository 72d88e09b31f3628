"""The experiments of ``minivae reproduce``: name -> a function of a folder, which
measures, writes its raw numbers, table and picture there, and returns the table.
"""

from .departures import reproduce_departures
from .estimators import reproduce_estimators
from .kl_weight import reproduce_kl_weight
from .measures import reproduce_measures
from .museum import reproduce_museum
from .recipes import reproduce_recipes
from .refit import reproduce_refit
from .snr import reproduce_snr
from .sparse import reproduce_sparse
from .truth import reproduce_truth

EXPERIMENTS = {
    "snr": reproduce_snr,
    "estimators": reproduce_estimators,
    "sparse": reproduce_sparse,
    "recipes": reproduce_recipes,
    "departures": reproduce_departures,
    "truth": reproduce_truth,
    "museum": reproduce_museum,
    "kl-weight": reproduce_kl_weight,
}
# of a trained model: functions of a folder, and of the run's
OF_A_RUN = {"measures": reproduce_measures, "refit": reproduce_refit}
