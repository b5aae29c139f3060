"""Plugin of pytest: run this process, and those it forks, as on a processor with Intel's matrix tiles (AMX).

AMX_EMULATOR names the library that was built of tests/ops/amx_emulator.c. Use: pytest -p amx_emulation -p
no:faulthandler. The processor must have AVX-512, and must not have tiles: their real instructions would be used.
"""

import ctypes
import os
from functools import cache

from llvmlite import binding

ctypes.CDLL(os.environ["AMX_EMULATOR"])
features = binding.get_host_cpu_features()
features.update(dict.fromkeys(("amx-tile", "amx-bf16", "amx-int8"), True))
binding.get_host_cpu_features = lambda: features  # seqkd asks it, and numba, whose code LLVM then compiles for tiles

from seqkd.ops.cpu import amx  # noqa: E402 - it reads the features

amx.refusal = cache(lambda: "")  # the system would refuse tiles that the processor lacks
