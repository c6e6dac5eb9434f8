"""For the unit tests: figures are drawn without a screen. Kernels are left to choose their own backend."""

import matplotlib

matplotlib.use("agg")
