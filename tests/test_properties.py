"""The twelve invariants that hold whatever comes, one test or more for each.

What the kernels alone have to hold (2 to 4) is in test_kernel_equal.py too; here the layers
above them are tested, up to two connections that are each other's peer, driven by
arbitrary series of calls and compared with a model.
"""


