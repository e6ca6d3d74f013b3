"""Counting over packed bits: how runs are packed, the kernels, and the sweeps over matrices of estimates."""
