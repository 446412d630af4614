#!/bin/sh
# Trains the lip-sync expert of src/magictalk/assets/sync; its card says in what its own run differed. From the
# repository's root, with the data folder beside it. The dataset is built without judging lip-sync: training aligns
# its clips by itself.
set -eu
magictalk data build ../shared/data/videos -o out/sync/dataset --no-sync
python -m magictalk.train.sync --data out/sync/dataset -o out/sync/weights
cp out/sync/weights/config.json out/sync/weights/diffusion_pytorch_model.safetensors src/magictalk/assets/sync/
python benchmarks/sync.py --split val
