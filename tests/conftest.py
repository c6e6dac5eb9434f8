"""For the unit tests: figures are drawn without a screen, and one thread each. Kernels are left to choose their own."""

import matplotlib
import torch

matplotlib.use("agg")
# The tensors of the tests are small. Two threads that wait for each other on a core that something else uses as well
# take thirty times as long as one.
torch.set_num_threads(1)
