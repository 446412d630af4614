#!/bin/sh
# Trains what src/magictalk/assets/audio2bs holds. From the repository's root, with the data folder beside it; about
# an hour and a half on two CPU cores, most of it tracking. Every stage is kept under out/ and taken up again.
set -eu
python -m magictalk.data.clips --data ../shared/data -o out/clips
python -m magictalk.train.audio2bs --data ../shared/data --clips out/clips --work out/audio2bs -o out/audio2bs/weights
cp out/audio2bs/weights/config.json out/audio2bs/weights/diffusion_pytorch_model.safetensors src/magictalk/assets/audio2bs/
python benchmarks/lips.py --split val --tracks out/clips
