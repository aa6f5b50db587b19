"""Where the network computes, and how it does so the same way each time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from retrainer.algorithms import torch_settings
from retrainer.errors import AlgorithmError

if TYPE_CHECKING:
    from collections.abc import Iterator

# How torch says that memory is short, or a device is gone, in an ordinary RuntimeError.
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc")
_DEVICE_ERRORS = ("CUDA error", "CUDA driver", "NVML", "cuBLAS", "cuDNN", "MPS")


def choose_device() -> str:
    """Return `cuda` or `mps` where there is one, else `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose_dtype(device: str) -> torch.dtype:
    """Return bfloat16 where the device multiplies it natively, which is twice as fast, else float32."""
    if device == "cpu":
        capabilities = torch.cpu.get_capabilities()
        native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return torch.bfloat16 if native else torch.float32
    if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def choose_threads(device: str, dtype: torch.dtype) -> int:
    """Return in how many threads texts are drawn: two in bfloat16 on the processor, else one.

    Each token reads all weights, which two cores do faster. In bfloat16, no bit of the result changes; in float32, that
    of products of some numbers of rows does.
    """
    return 2 if device == "cpu" and dtype == torch.bfloat16 else 1


@contextmanager
def deterministic(threads: int = 1) -> Iterator[None]:
    """Compute by algorithms that give the same each time, in one thread, which on busy cores is also faster.

    Args:
        threads: at most so many, where they change no result; never more than torch has (`OMP_NUM_THREADS`).

    Raises:
        AlgorithmError: the memory of the machine or of its device is not enough, or the device is gone.
    """
    with torch_settings.LOCK:
        yield from _deterministic(threads)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread what may depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _deterministic(most: int) -> Iterator[None]:
    threads, was = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    state = torch.get_rng_state()
    torch.set_num_threads(min(most, threads))
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory() from error
    except RuntimeError as error:  # the one of a lost device, `AcceleratorError`, is one too
        first = (str(error).splitlines() or [""])[0]
        if any(sign in first.lower() for sign in _OUT_OF_MEMORY):
            raise _out_of_memory() from error
        if isinstance(error, torch.AcceleratorError) or any(sign in first for sign in _DEVICE_ERRORS):
            raise AlgorithmError(
                f"the device of `finetuned_lm` failed: {first}", hint="Check the device, then run the command again"
            ) from error
        raise
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=was)
        torch.set_rng_state(state)


def _out_of_memory() -> AlgorithmError:
    return AlgorithmError(
        "`finetuned_lm` ran out of memory", hint="Use a smaller base model, rank or number of samples"
    )
