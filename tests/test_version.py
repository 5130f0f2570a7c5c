import configparser
import re

import byol_keras
from byol_keras import version

from support import ROOT


def test_version_is_a_release_number_and_the_one_of_the_distribution():
    assert re.fullmatch(r"\d+\.\d+\.\d+", version.__version__)
    assert byol_keras.__version__ == version.__version__
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: byol_keras.version.__version__"
