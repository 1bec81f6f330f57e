"""Measurements behind the project's claims; `python -m benchmarks --help` lists them."""

import logging
import warnings


# Here, because worker processes load this first: notices about kernels that are not used, and about the libraries' own
# future, would bury the progress display
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
