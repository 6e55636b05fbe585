#!/bin/sh
# Fetches CIFAR-10 (A. Krizhevsky, 2009) and unpacks its binary batches: fetch_cifar10.sh [DIR],
# data/cifar10 by default. The address may be replaced by a mirror's through CIFAR10_URL.
set -eu
. "$(dirname "$0")/fetch_lib.sh"

dir=${1:-data/cifar10}
url=${CIFAR10_URL:-https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz}
archive=$dir/cifar-10-binary.tar.gz
mkdir -p "$dir"

complete=yes
for name in data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch; do
    [ -f "$dir/$name.bin" ] || complete=no
done
if [ $complete = no ]; then
    fetch "$archive" c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd "$url"
    rm -rf "$dir/unpacking"
    mkdir "$dir/unpacking"
    tar -xzf "$archive" -C "$dir/unpacking"
    mv "$dir"/unpacking/cifar-10-batches-bin/* "$dir/"
    rm -rf "$dir/unpacking" "$archive"
fi
echo "CIFAR-10 is in $dir"
