"""Every worker of the test run has one core: more threads only wait for each other."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # also of the commands that tests start

import hypothesis

hypothesis.settings.register_profile("quick", max_examples=25)  # `make test-all`: 100
hypothesis.settings.load_profile("quick")
