#!/bin/sh
# Trains the networks of src/magictalk/assets/nano-vae, magic-talk-reference and magic-talk-animate. From the repository's
# root, with the data folder beside it; an hour and three quarters on two CPU cores after the dataset, minutes on a GPU
# (accelerate uses what there is); prepared videos, 3 GB, stay in out/dataset/looks. Both go on where they broke off; out/magic-talk/captions.csv can be edited, and sheet.png
# in each stage's folder shows how it goes. An ablation is a run with --without decoupling, face, contour or motion.
set -eu
magictalk data build ../shared/data/videos -o out/dataset
python -m magictalk.train.autoencoder --data out/dataset --work out/autoencoder -o out/vae
python -m magictalk.train.magic_talk --data out/dataset --vae out/vae --work out/magic-talk -o out/magic-talk/weights
for pair in vae:nano-vae magic-talk/weights/reference:magic-talk-reference magic-talk/weights/animate:magic-talk-animate
do
    mkdir -p "src/magictalk/assets/${pair#*:}"
    cp "out/${pair%:*}/config.json" "out/${pair%:*}/diffusion_pytorch_model.safetensors" "src/magictalk/assets/${pair#*:}/"
done
