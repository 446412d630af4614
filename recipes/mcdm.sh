#!/bin/sh
# Trains the networks of src/magictalk/assets/mcdm-tokens, mcdm-prior and mcdm-clips: the motion prior and the encoders of
# its tokens, then the network that draws clips, over MAGIC-Talk's, which recipes/magic_talk.sh trains. From the
# repository's root, with the data folder beside it; two hours on two CPU cores after the dataset, minutes on a GPU. It goes
# on where it broke off; sheet.png in each stage's folder shows how it goes. An ablation is a run of the last with
# --without archived, present or memory; --base takes other networks than the package's.
set -eu
magictalk data build ../shared/data/videos -o out/dataset
python -m magictalk.train.motion_prior --data out/dataset --work out/motion-prior -o out/motion-prior/weights
python -m magictalk.train.mcdm --data out/dataset --tokens out/motion-prior/weights/tokens --work out/mcdm \
    -o out/mcdm/weights
for pair in motion-prior/weights/tokens:tokens motion-prior/weights/prior:prior mcdm/weights:clips
do
    mkdir -p "src/magictalk/assets/mcdm-${pair#*:}"
    cp "out/${pair%:*}/config.json" "out/${pair%:*}/diffusion_pytorch_model.safetensors" \
        "src/magictalk/assets/mcdm-${pair#*:}/"
done
