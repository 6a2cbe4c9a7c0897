"""Reads TensorBoard's event files record by record, and checks every checksum, by hand."""

import struct

from tensorboardX.proto.event_pb2 import Event


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum, bit by bit (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """The checksum as a record has it: rotated, and a constant added."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path) -> list[Event]:
    """The events of a file, in order."""
    data, found = path.read_bytes(), []
    while data:
        length, check = struct.unpack("<QI", data[:12])
        assert check == masked(data[:8])
        body, data = data[12 : 12 + length], data[12 + length :]
        assert len(body) == length
        assert struct.unpack("<I", data[:4]) == (masked(body),)
        found.append(Event.FromString(body))
        data = data[4:]
    return found


def curves(folder) -> dict[str, list[tuple[int, float]]]:
    """``{tag: [(step, value), ...]}`` of the one event file of a folder."""
    (path,) = folder.glob("events.out.tfevents.*")
    found = {}
    for event in events(path):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found
