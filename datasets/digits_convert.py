#!/usr/bin/env python3
"""Writes datasets/digits_data.c from the optical digits that scikit-learn ships.

usage: digits_convert.py DIGITS.CSV.GZ > datasets/digits_data.c

The input is sklearn/datasets/data/digits.csv.gz of the scikit-learn wheel or of Debian's
python3-sklearn (SHA-256 below). Only the standard library is needed.
"""
import gzip
import hashlib
import sys

SHA256 = "46abec6b12486ad9e51943373abcf22bbea1b5a51a1619b361570d8893f1464a"
HEADER = """\
/* Optical recognition of handwritten digits: E. Alpaydin and C. Kaynak, UCI Machine Learning
 * Repository, 1998, doi:10.24432/C50P49, CC BY 4.0; the test part of the original, in the order in which
 * scikit-learn ships it. Written by datasets/digits_convert.py; changed in form only.
 * Each image is its label, then 8x8 pixels, row by row, 'A' = 0 (background) to 'Q' = 16. */
#include "datasets/digits_data.h"

const char ohm_digits_data[] ="""
PER_LINE = 3  # images: keeps the file below 800 lines


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as file:
        packed = file.read()
    if hashlib.sha256(packed).hexdigest() != SHA256:
        sys.exit(f"{sys.argv[1]}: not the file this script was written for (SHA-256 differs)")
    images = []
    for line in gzip.decompress(packed).decode().splitlines():
        *pixels, label = [int(float(value)) for value in line.split(",")]
        images.append(str(label) + "".join(chr(ord("A") + value) for value in pixels))
    print(HEADER)
    lines = ['    "' + "".join(images[i : i + PER_LINE]) + '"' for i in range(0, len(images), PER_LINE)]
    print("\n".join(lines) + ";")


main()
