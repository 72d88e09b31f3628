"""The experiments of ``minivae reproduce``: name -> a function of a folder, which
measures, writes its raw numbers, table and picture there, and returns the table.
"""

from .estimators import reproduce_estimators
from .snr import reproduce_snr
from .sparse import reproduce_sparse

EXPERIMENTS = {
    "snr": reproduce_snr,
    "estimators": reproduce_estimators,
    "sparse": reproduce_sparse,
}
