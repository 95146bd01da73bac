"""Restores a disk from a store in a directory. Written from docs/store-format.md alone: it shares no code with
Longshore, so it shows that the page says enough. Usage: read_store.py STORE OPERATION OUTPUT
Needs blake3 and zstandard. Whatever it finds wrong is an exception; nothing is written that wasn't checked."""

import json
import pathlib
import struct
import sys
import uuid

import blake3
import zstandard

FANOUT = 128
SECTOR = 512
MAX_ROOT = 256 << 20
MAX_PACK = 1 << 27
MAX_PAGE = 12824
ZERO = bytes(32)


class Broken(Exception):
    """What is stored isn't what the format says."""


def check(condition, what):
    if not condition:
        raise Broken(what)


def digest(data):
    return blake3.blake3(data).digest()


class Fields:
    """Takes a binary part to pieces, in order."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def bytes(self, count):
        check(self.at + count <= len(self.data), "it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, kind):
        return struct.unpack("<" + kind, self.bytes(struct.calcsize("<" + kind)))[0]

    def zeros(self, count):
        check(self.bytes(count) == bytes(count), "reserved bytes aren't zeros")

    def pack_id(self):
        operation, attempt, n = struct.unpack("<16sII", self.bytes(24))
        return (operation, attempt, n)

    def end(self):
        check(self.at == len(self.data), "bytes follow the end")


def pack_key(pack):
    operation, attempt, n = pack
    return f"packs/{uuid.UUID(bytes=operation)}/{attempt}-{n}"


class Disk:
    def __init__(self, store, operation):
        self.store = pathlib.Path(store)
        self.operation = str(uuid.UUID(operation))
        check(not (self.store / f"objects/{self.operation}/aborted").exists(), "the object was aborted")
        ready = json.loads((self.store / f"objects/{self.operation}/ready").read_text())
        check(ready["format_version"] == 1, "another version of `ready`")
        self.read_root(ready["root"])

    def read_root(self, named):
        check(named["bytes"] <= MAX_ROOT, "the root is too long")
        path = self.store / f"objects/{self.operation}/{named['attempt']}.manifest"
        with path.open("rb") as file:
            data = file.read(named["bytes"] + 1)
        check(len(data) == named["bytes"], "the root has another length")
        check(digest(data).hex() == named["digest"], "the root has another digest")
        check(digest(data[:-32]) == data[-32:], "the root's own digest differs")
        fields = Fields(data[:-32])
        check(fields.bytes(8) == b"LSROOT\r\n" and fields.number("I") == 1, "not a root of version 1")
        length = fields.number("I")
        check(length <= 65536, "the description is too long")
        self.description = about = json.loads(fields.bytes(length))
        check(about["operation"] == self.operation and about["attempt"] == named["attempt"], "another object's root")
        self.size, self.extent = about["virtual_size"], about["extent_size"]
        check(0 <= self.size <= 1 << 46, "the disk is too large")
        check(65536 <= self.extent <= 4194304 and self.extent & (self.extent - 1) == 0, "no such extent size")
        self.counts = [-(-self.size // self.extent)]
        while self.size and (len(self.counts) == 1 or self.counts[-1] > FANOUT):
            self.counts.append(-(-self.counts[-1] // FANOUT))
        top = fields.number("I")
        check(top == (self.counts[-1] if len(self.counts) > 1 else 0), "another number of top pages")
        entries = [fields.bytes(80) for _ in range(top)]
        packs = [(fields.pack_id(), fields.number("Q")) for _ in range(fields.number("I"))]
        fields.end()
        check(all(a[0] < b[0] for a, b in zip(packs, packs[1:])), "the packs aren't sorted")
        check(all(length <= MAX_PACK for _, length in packs), "a pack is too long")
        self.packs = dict(packs)
        self.top = [self.top_page(entry, packs) for entry in entries]
        whole = b"longshore.object.1" + struct.pack("<QIH", self.size, self.extent, top)
        whole += b"".join(bytes([page is not None]) + (page[0] if page else ZERO) for page in self.top)
        check(digest(whole).hex() == about["object_digest"], "the object's digest differs")

    def top_page(self, entry, packs):
        fields = Fields(entry)
        content, data, offset, stored, number = fields.bytes(32), fields.bytes(32), *struct.unpack("<III", fields.bytes(12))
        codec, kind = fields.bytes(2)
        fields.zeros(2)
        if kind == 0:
            check(entry == bytes(80), "a ZERO top page isn't zeros")
            return None
        check(kind == 1 and number < len(packs), "unknown kind, or a pack that isn't listed")
        return content, data, (packs[number][0], offset, stored, codec)

    def fetch(self, place):
        pack, offset, stored, _ = place
        check(pack in self.packs, "a place in a pack that the root doesn't list")
        check(stored > 0 and offset + stored <= self.packs[pack], "a place past the end of its pack")
        with (self.store / pack_key(pack)).open("rb") as file:
            file.seek(offset)
            data = file.read(stored)
        check(len(data) == stored, f"{pack_key(pack)} is short")
        return data

    def page(self, level, index, content, data_digest, place):
        """The entries of a page: None, or what it holds of the child."""
        stored, codec = self.fetch(place), place[3]
        check(codec in (0, 1), "a page is raw or zstd")
        data = stored if codec == 0 else unzstd(stored, MAX_PAGE)
        check(len(data) <= MAX_PAGE, "the page is too long")
        check(digest(data) == data_digest, "the page's bytes have another digest")
        fields = Fields(data)
        check(fields.bytes(4) == b"LSPG", "not a page")
        check((fields.number("B"), fields.number("B")) == (1, level), "another version or level")
        packs, count = fields.number("H"), fields.number("H")
        fields.zeros(6)
        check(fields.number("Q") == index, "another page")
        check(count == min(FANOUT, self.counts[level] - index * FANOUT) and packs <= count, "another number of entries")
        ids = [fields.pack_id() for _ in range(packs)]
        entries = [self.entry(fields.bytes(76 if level else 44), level, ids) for _ in range(count)]
        fields.end()
        check(any(entries), "a page of zeros is stored")
        sums = b"".join(bytes([entry is not None]) + (entry[0] if entry else ZERO) for entry in entries)
        whole = b"longshore.page.1" + struct.pack("<BH", level, count) + sums
        check(digest(whole) == content, "the page's content digest differs")
        return entries

    def entry(self, data, level, ids):
        fields = Fields(data)
        content = fields.bytes(32)
        stored_digest = fields.bytes(32) if level else None
        offset, stored, number, codec, kind = struct.unpack("<IIHBB", fields.bytes(12))
        if kind == 0:
            check(data == bytes(len(data)), "a ZERO entry isn't zeros")
            return None
        check(kind == 1 and number < len(ids), "unknown kind, or no such pack id")
        return content, stored_digest, (ids[number], offset, stored, codec)

    def extents(self, level=None, index=0, page=None):
        """(index, digest, place) of all extents that aren't zeros, in order."""
        if level is None:
            for index, page in enumerate(self.top):
                if page:
                    yield from self.extents(len(self.counts) - 2, index, page)
            return
        for number, entry in enumerate(self.page(level, index, *page)):
            child = index * FANOUT + number
            if entry and level:
                yield from self.extents(level - 1, child, entry)
            elif entry:
                yield child, entry[0], entry[2]

    def restore(self, output):
        with open(output, "wb") as file:
            file.truncate(self.size)
            for index, expected, place in self.extents():
                start = index * self.extent
                length = min(self.extent, self.size - start)
                data = decode(self.fetch(place), place[3], length)
                check(digest(data) == expected, f"extent {index} has another digest")
                file.seek(start)
                file.write(data)


def unzstd(stored, most):
    """What one whole frame holds, which says beforehand that it is at most `most` bytes."""
    check(0 < zstandard.frame_content_size(stored) <= most, "a zstd frame without its size, or with too much in it")
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    data = decompressor.decompress(stored)
    check(decompressor.eof and not decompressor.unused_data, "not one whole zstd frame")
    return data


def decode(stored, codec, length):
    if codec == 0:
        data = stored
    elif codec == 1:
        data = unzstd(stored, length)
    else:
        check(codec == 2, f"unknown codec {codec}")
        sectors = -(-length // SECTOR)
        bitmap = Fields(stored).bytes(-(-sectors // 8))
        present = [s for s in range(len(bitmap) * 8) if bitmap[s // 8] >> s % 8 & 1]
        check(not present or present[-1] < sectors, "a sector past the end")
        whole, at = bytearray(length), len(bitmap)
        for sector in present:
            size = min(SECTOR, length - sector * SECTOR)
            check(at + size <= len(stored), "a sector is missing")
            whole[sector * SECTOR : sector * SECTOR + size] = stored[at : at + size]
            at += size
        check(at == len(stored), "bytes behind the last sector")
        data = bytes(whole)
    check(len(data) == length, "an extent has another length")
    return data


if __name__ == "__main__":
    store, operation, output = sys.argv[1:]
    Disk(store, operation).restore(output)
