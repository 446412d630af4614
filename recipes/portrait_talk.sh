#!/bin/sh
# Trains the networks of src/magictalk/assets/portrait-talk-identity and portrait-talk-animate over MAGIC-Talk's, which
# recipes/magic_talk.sh trains. From the repository's root, with the data folder beside it; an hour on two CPU cores
# after the dataset, minutes on a GPU. It goes on where it broke off; sheet.png in each stage's folder shows how it goes. An
# ablation is a run with --without contour, previous or mask; --base takes other networks than the package's.
set -eu
magictalk data build ../shared/data/videos -o out/dataset
python -m magictalk.train.portrait_talk --data out/dataset --work out/portrait-talk -o out/portrait-talk/weights
for part in identity animate
do
    mkdir -p "src/magictalk/assets/portrait-talk-$part"
    cp "out/portrait-talk/weights/$part/config.json" "out/portrait-talk/weights/$part/diffusion_pytorch_model.safetensors" \
        "src/magictalk/assets/portrait-talk-$part/"
done
