"""The Triton kernels give what PyTorch's passes give: on a GPU as they run there, elsewhere in
Triton's interpreter (`pip install triton`).
"""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from folders import SUPPORT


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_on_the_device(dtype):
    check("cuda", dtype)


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="needs triton, which PyTorch's CUDA wheels bring",
)
# its interpreter has no products in bfloat16
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_in_the_interpreter(dtype):
    check("interpreter", dtype)


def check(device, dtype):
    environment = {**os.environ, **({"TRITON_INTERPRET": "1"} if device == "interpreter" else {})}
    script = SUPPORT / "fused_kernels.py"
    done = subprocess.run(
        [sys.executable, script, "cpu" if device == "interpreter" else device, dtype],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
