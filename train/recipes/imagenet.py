"""What the recipes for ImageNet have in common."""

# Mean and standard deviation of the ImageNet training images, as in torchvision.
IMAGENET_MEAN = [123.675, 116.28, 103.53]
IMAGENET_STD = [58.395, 57.12, 57.375]

# Crops of a random area and aspect ratio, flipped at random (Szegedy et al. 2015).
RANDOM_CROPS = {
    "data.mean": IMAGENET_MEAN,
    "data.std": IMAGENET_STD,
    "augment.crop": "resized",
    "augment.flip": True,
}
