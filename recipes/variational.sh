#!/bin/sh
# Trains the network of src/magictalk/assets/variational. From the repository's root, with the data folder beside it;
# ten minutes on one CPU core after the dataset, less on a GPU (accelerate uses what there is). It goes on where it broke
# off; losses.png in the work folder shows how it went. With HuBERT in place of log-mel: add --front hubert, and
# --hubert FOLDER where its weights are not to come from the hub.
set -eu
magictalk data build ../shared/data/videos -o out/dataset
python -m magictalk.train.variational --data out/dataset --work out/variational -o out/variational/weights
for file in weights/config.json weights/diffusion_pytorch_model.safetensors losses.png; do
    cp out/variational/$file src/magictalk/assets/variational/
done
