"""Published image sets that do not ship with minivae: fetched once, into the user's
cache, and checked by their published MD5.
"""

from pathlib import Path

from .idx import idx_splits
from .omniglot import MD5, read_omniglot

RAW = "https://raw.githubusercontent.com"
# file -> MD5
OMNIGLOT = (f"{RAW}/yburda/iwae/master/datasets/OMNIGLOT", {"chardata.mat": MD5})
# Xiao, Rasul and Vollgraf 2017; the four files are called like MNIST's
FASHION_MNIST = (
    f"{RAW}/zalandoresearch/fashion-mnist/master/data/fashion",
    {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)


def fetch(name, url, files):
    """The folder in the user's cache that has these files, which were fetched if they
    were not there.
    """
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"fetching {name} needs pooch: pip install 'minivae[download]', or give the"
            " path of its files"
        ) from error
    folder = Path(pooch.os_cache("minivae")) / name
    for file, md5 in files.items():
        try:
            pooch.retrieve(f"{url}/{file}", f"md5:{md5}", file, folder)
        except OSError as error:
            raise OSError(
                f"could not fetch {url}/{file}: without a network give the path of"
                f" {name}'s files"
            ) from error
    return folder


def fetch_omniglot():
    """OMNIGLOT's `Pictures`: 24,345 to train on, 8,070 to test on; labels are alphabets
    0-49.
    """
    return read_omniglot(fetch("omniglot", *OMNIGLOT) / "chardata.mat")


def fetch_fashion_mnist():
    """Fashion-MNIST's `Pictures`: 60,000 to train on, 10,000 to test on; labels 0-9."""
    return idx_splits(fetch("fashion-mnist", *FASHION_MNIST))
