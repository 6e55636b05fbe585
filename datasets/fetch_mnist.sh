#!/bin/sh
# Fetches MNIST (Y. LeCun, C. Cortes, C. Burges) and unpacks it: fetch_mnist.sh [DIR], data/mnist by
# default. Where the official address does not answer, PyTorch's mirror is asked; MNIST_URL replaces both.
set -eu
. "$(dirname "$0")/fetch_lib.sh"

dir=${1:-data/mnist}
official=${MNIST_URL:-http://yann.lecun.com/exdb/mnist}
mirror=${MNIST_URL:-https://ossci-datasets.s3.amazonaws.com/mnist}
mkdir -p "$dir"

while read -r name sum; do
    if [ -f "$dir/$name" ]; then
        echo "$dir/$name: already here"
        continue
    fi
    fetch "$dir/$name.gz" "$sum" "$official/$name.gz" "$mirror/$name.gz"
    gzip -dc "$dir/$name.gz" >"$dir/$name.new"
    mv "$dir/$name.new" "$dir/$name"
    rm "$dir/$name.gz"
done <<FILES
train-images-idx3-ubyte 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609
train-labels-idx1-ubyte 3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c
t10k-images-idx3-ubyte 8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6
t10k-labels-idx1-ubyte f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6
FILES
echo "MNIST is in $dir"
