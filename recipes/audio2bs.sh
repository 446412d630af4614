#!/bin/sh
# Trains the network of src/magictalk/assets/audio2bs; its card says in what its own run differed. From the repository's
# root, with the data folder beside it; about an hour and a half on two CPU cores. Every stage is kept under out/ and
# taken up again.
set -eu
magictalk data build ../shared/data/videos -o out/dataset
python -m magictalk.train.audio2bs --data out/dataset --work out/audio2bs -o out/audio2bs/weights
cp out/audio2bs/weights/config.json out/audio2bs/weights/diffusion_pytorch_model.safetensors src/magictalk/assets/audio2bs/
python benchmarks/lips.py --split val
