"""CRC-32C (Castagnoli, RFC 3720 appendix B.4), which TensorFlow's files carry; fast enough for a network's weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78
"""Bits reversed."""
LANES = 1024
"""Pieces of one buffer that are worked on side by side, a power of two."""


def _table() -> NDArray[np.uint32]:
    value = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        value = np.where(value & 1, (value >> 1) ^ np.uint32(POLYNOMIAL), value >> 1)
    return value


TABLE = _table()
_STEPS: list[int] = TABLE.tolist()


def crc32c(data: bytes | memoryview) -> int:
    """Of the whole buffer. The checksum is linear, so pieces are summed apart and put together afterwards."""
    state = 0xFFFFFFFF
    size = len(data) // LANES
    if size >= 16:
        pieces = np.frombuffer(data, np.uint8, size * LANES).reshape(LANES, size)
        states = np.zeros(LANES, np.uint32)
        states[0] = state
        for column in np.ascontiguousarray(pieces.T):
            states = TABLE[(states ^ column) & 0xFF] ^ (states >> 8)
        state = _joined(states, size)
        data = data[size * LANES :]
    for byte in data:
        state = _STEPS[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """As LevelDB's tables and TensorFlow's bundles store it: a checksum of data that hold checksums would be weak."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _joined(states: NDArray[np.uint32], size: int) -> int:
    """The state after all pieces, from those after each of them alone, `size` bytes each."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    zeros, power = bits, TABLE[bits & 0xFF] ^ (bits >> 8)  # what 0 bytes, and one byte, of zeros make of each bit
    while size:
        if size & 1:
            zeros = _through(power, zeros)
        power = _through(power, power)
        size >>= 1
    while len(states) > 1:
        states = _through(zeros, states[::2]) ^ states[1::2]
        zeros = _through(zeros, zeros)
    return int(states[0])


def _through(operator: NDArray[np.uint32], states: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """`operator` (32,): what becomes of each bit. `states` (N,) to (N,)."""
    chosen = np.where((states[:, None] >> np.arange(32, dtype=np.uint32)) & 1, operator, np.uint32(0))
    result: NDArray[np.uint32] = np.bitwise_xor.reduce(chosen, axis=1)
    return result
