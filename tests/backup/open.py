#!/usr/bin/env python3
"""Opens a backup and says what is in it: an implementation of docs/protocol/backup.md that shares no line with ours.

    open.py FILE PASSPHRASE_FILE
"""

import io
import json
import sys

import cbor2
import pyrage


def main() -> None:
    file, passphrase_file = sys.argv[1:]
    with open(passphrase_file, encoding="utf-8") as words:
        passphrase = words.readline().rstrip("\r\n")
    with open(file, "rb") as sealed:
        records = io.BytesIO(pyrage.passphrase.decrypt(sealed.read(), passphrase))
    end = records.seek(0, io.SEEK_END)
    records.seek(0)
    found = {"contacts": 0, "texts": [], "labels": []}
    count = 0
    last = None
    while records.tell() < end:
        last, fields = cbor2.load(records)
        count += 1
        if last == 0:
            assert count == 1 and fields[0][0] == 1, "a version that this does not know"
            found["account"] = fields[0][1].hex()
        elif last == 2:
            found["contacts"] += 1
        elif last == 5:
            found["labels"].append(fields[1].get(0))
        elif last == 7:
            found["texts"].append(fields[2][2])
        elif last == 8:
            assert fields[0] == count, "records are missing"
    assert last == 8, "there is no end"
    json.dump(found, sys.stdout)


main()
