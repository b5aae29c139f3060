"""What compiled code is compiled for: the processor's features, and the flags of numba and LLVM."""

from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import binding


@cache
def cpuinfo() -> str:
    """Return /proc/cpuinfo, Linux's description of the processor; on other systems an empty string."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


_FEATURES = binding.get_host_cpu_features()
HAS_BF16 = _FEATURES.get("avx512bf16", False)
# AMD's instruction for pairs of bfloat16 does twice the work of one for float32; Intel's takes longer than the four
# instructions that give the same bits.
MULTIPLIES_PAIRS = HAS_BF16 and "AuthenticAMD" in cpuinfo()
HAS_INT8 = _FEATURES.get("avx512vnni", False)
HAS_AMX_BF16 = _FEATURES.get("amx-tile", False) and _FEATURES.get("amx-bf16", False)
HAS_AMX_INT8 = _FEATURES.get("amx-tile", False) and _FEATURES.get("amx-int8", False)
LANES = 16 if _FEATURES.get("avx512f", False) else 8  # float32 numbers of a vector

FAST = {"reassoc", "contract", "nsz", "arcp"}  # sums may be reordered (always in the same way), NaN stays NaN
FLAGS: dict[str, Any] = {"fastmath": FAST, "error_model": "numpy", "nogil": True}
# For a function with sums that compiled code calls. LLVM always copies it into the caller, so it has one compiled form.
# Otherwise the process that compiles calls the function's own copy and one that loads the cache calls the copy inside
# the caller's object code; LLVM orders the sums of the two differently on some processors.
FORCE_INLINE = FLAGS | {"forceinline": True}
INLINE: dict[str, Any] = {"fastmath": FAST, "error_model": "numpy", "inline": "always"}
