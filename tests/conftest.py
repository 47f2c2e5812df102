"""Every worker of the test run has one core: more threads only wait for each other."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # also of the commands that tests start
