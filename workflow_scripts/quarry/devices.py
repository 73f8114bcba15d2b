"""Where networks are computed: CPU or GPU, by torch."""

from __future__ import annotations

import os

import torch

from quarry.errors import QuarryError


def device_of(name: str) -> torch.device:
    """Return a device (auto, cpu or cuda), with torch's threads set to those of the job.

    Raises QuarryError if there is no GPU for cuda.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) != torch.get_num_threads():
        torch.set_num_threads(int(threads))
    if name == "cuda" and not torch.cuda.is_available():
        raise QuarryError("model.device: cuda, but torch finds no GPU on this node; set auto or cpu")
    use_gpu = name != "cpu" and torch.cuda.is_available()
    if use_gpu:
        # Without it cuBLAS may add in another order from run to run.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda" if use_gpu else "cpu")
