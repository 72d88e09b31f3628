"""The 28x28 OMNIGLOT of Burda et al. (2016), as they published it: chardata.mat.

SciPy's reader of .mat, which a single wrong byte can crash, gets only that file.
"""

import hashlib
import io
import shlex

import numpy as np

from ..engine.files import open_regular
from .dataset import Pictures

MD5 = "21ecaf34373511aa7691cf2e0802aa3d"
MOST_MAT = 2**27  # bytes of a .mat whose checksum is worth taking
# converts a .mat of the same arrays: pictures are columns, stored by their own columns
CONVERT = (
    "import sys, numpy as np; from scipy.io import loadmat; m = loadmat(sys.argv[1]);"
    " up = lambda a: a.T.reshape(-1, 28, 28).transpose(0, 2, 1).reshape(-1, 784);"
    " np.savez_compressed(sys.argv[2],"
    ' train_images=up(m["data"]), train_labels=m["target"].argmax(0),'
    ' test_images=up(m["testdata"]), test_labels=m["testtarget"].argmax(0))'
)


def read_omniglot(path):
    """The `Pictures` to train on and to test on of the published ``chardata.mat``."""
    from scipy.io import loadmat

    with open_regular(path, MOST_MAT) as file:
        raw = file.read()
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != MD5:
        converted = path.with_suffix(".npz")
        command = ["python", "-c", CONVERT, str(path), str(converted)]
        raise ValueError(
            f"{path}: not the published chardata.mat, whose MD5 is {MD5}; a"
            " damaged .mat can crash its reader. If you trust this one, convert it once"
            f" and give {converted} instead: {shlex.join(command)}"
        )
    contents, splits = loadmat(io.BytesIO(raw)), []
    for images_key, labels_key in (("data", "target"), ("testdata", "testtarget")):
        # pictures are columns, stored down the picture's own columns
        pictures = contents[images_key].T.reshape(-1, 28, 28).transpose(0, 2, 1)
        images = np.ascontiguousarray(pictures.reshape(-1, 784), np.float32)
        labels = contents[labels_key].argmax(axis=0).astype(np.uint8)
        splits.append(Pictures(images, labels, (28, 28)))
    return splits
