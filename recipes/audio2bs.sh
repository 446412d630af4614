#!/bin/sh
# Trains what src/magictalk/assets/audio2bs holds. From the repository's root, with the data folder beside it; about
# an hour and a half on two CPU cores, most of it tracking. Every stage is kept under out/ and taken up again.
set -eu
magictalk data build ../shared/data/videos -o out/dataset
python -m magictalk.train.audio2bs --data out/dataset --work out/audio2bs -o out/audio2bs/weights
cp out/audio2bs/weights/config.json out/audio2bs/weights/diffusion_pytorch_model.safetensors src/magictalk/assets/audio2bs/
python benchmarks/lips.py --split val
