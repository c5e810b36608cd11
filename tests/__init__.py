"""One thread for each library: models this small wait for each other's threads, at 6 times the CPU.

It is set here because NumPy, PyTorch and TensorFlow read it when they are imported.
"""

import os

for _name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_name, "1")
