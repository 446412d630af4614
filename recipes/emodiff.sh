#!/bin/sh
# Trains the networks of src/magictalk/assets/emodiff and src/magictalk/assets/lips, which do not need each other. From the
# repository's root, with the data folder beside it; an hour on two CPU cores, the dataset included, minutes on a GPU
# (accelerate uses what there is). Both go on where they broke off; losses.png in each work folder shows how it went.
set -eu
magictalk data build ../shared/data/videos -o out/dataset
python -m magictalk.train.emodiff --data out/dataset --work out/emodiff -o out/emodiff/weights
python -m magictalk.train.refinement --data out/dataset --work out/lips -o out/lips/weights
for name in emodiff lips; do
    cp out/$name/weights/config.json out/$name/weights/diffusion_pytorch_model.safetensors src/magictalk/assets/$name/
done
python benchmarks/ablations.py --data out/dataset --work out/ablations
